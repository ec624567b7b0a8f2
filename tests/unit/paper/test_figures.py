from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.core.errors import BadInput
from assay.paper import figures as curves
from assay.paper import masking, pictures
from assay.paper.figures import FIGURE_7, FIGURE_10, TITLES, figure, figures, specs, training_logs
from assay.paper.inputs import PaperContents, lines_of
from assay.paper.tables import PRINTED
from assay.report import export as drawing
from assay.report.theme import IN_FILE
from assay.statistics import wilson
from tests.support.fake_paper import HOSTILE, SCALED, digits_table, full, log, panel, picture, probe, temperature

FIGURES = ["figure-1", "figure-2", "figure-3", "figure-4", "figure-7", "figure-8", "figure-9", "figure-10", "figure-11"]
MASKING = ["masking-gaps", "masking-zeros", "masking-temperatures"]


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a specification is drawn from."""
    return [row for rows in spec["datasets"].values() for row in rows]


# tests/unit/cli/test_paper_report.py draws them as PDF
PDF = pytest.param("pdf", b"%PDF", marks=pytest.mark.slow)


@pytest.mark.parametrize(("format", "start"), [("svg", b"<svg"), ("png", b"\x89PNG"), PDF])
def test_figures_are_written_in_each_format(tmp_path: Path, format: str, start: bytes) -> None:
    written = figures(full(), tmp_path, format)
    assert [path.name for path in written] == [f"{name}.{format}" for name in FIGURES + MASKING]
    assert all(path.read_bytes().startswith(start) for path in written)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="svg, png, pdf, not 'jpg'"):
        figures(full(), tmp_path / "figures", "jpg")
    assert not (tmp_path / "figures").exists()


def test_what_is_not_there_is_not_drawn_and_says_what_to_run() -> None:
    assert list(specs(PaperContents())) == []
    for number in TITLES:
        assert "assay paper" in figure(PaperContents(), number).missing
        assert figure(full(), number).missing == "" or number in (5, 6)


def test_pictures_are_png_clipped_and_small_ones_are_enlarged_to_squares() -> None:
    uri = pictures.uri(picture(28, 1))
    shown = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert shown.size == (112, 112)
    assert shown.getpixel((0, 0)) == shown.getpixel((3, 3)) and shown.getextrema() == (0, 255)
    large = Image.open(io.BytesIO(base64.b64decode(pictures.uri(picture(300)).partition(",")[2])))
    assert large.size == (192, 192)


def test_a_panel_has_its_pictures_and_its_bars() -> None:
    rows = rows_of(pictures.panel(panel(3, target=True)))
    assert [row["name"] for row in rows if "picture" in row] == ["picture 0", "picture 1", "picture 2"]
    bars = {row["class"]: (row["share"], row["is"], row["percent"]) for row in rows if "class" in row}
    assert bars == {
        "goldfish": (0.7, "true class", "70 %"), HOSTILE: (0.2, "target", "20 %"), "tench": (0.004, "other", "<1 %")
    }  # fmt: skip


@pytest.mark.parametrize("many", [1, 3])
def test_a_panel_stands_still_in_a_page(many: int) -> None:
    svg = drawing.still(pictures.panel(panel(many)))
    assert svg.count("<image") == many and "goldfish" in svg and "<img" not in svg


def test_a_still_holds_png_pictures_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    png = "data:image/png;base64,iVBORw0KGgo="
    space = "xmlns:xlink='http://www.w3.org/1999/xlink'"
    for svg, fine in (
        (f"<svg><image href='{png}'/></svg>", True),
        (f"<svg {space}><image xlink:href='{png}'/></svg>", True),
        (f"<svg {space}><image href='{png}' xlink:href='https://x.org/'/></svg>", False),
        ("<svg><image href='https://x.org/a.png'/></svg>", False),
        ("<svg><image href='data:image/svg+xml;base64,PHN2Zy8+'/></svg>", False),
        ("<svg><image href='data:image/png;base64,AA==\" onload=\"x'/></svg>", False),
        (f"<svg><image href='{png}' onload='x'/></svg>", False),
        ("<svg><image/></svg>", False),
        (f"<svg><path href='{png}'/></svg>", False),
    ):  # fmt: skip
        monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec, svg=svg: svg)
        assert bool(drawing.still({})) is fine, svg


def test_patches_are_drawn_in_proportion() -> None:
    spec = pictures.patches(full().patches)
    widths = {layer["mark"]["width"]: spec["datasets"][layer["data"]["name"]][0]["side"] for layer in spec["layer"]}
    assert widths == {48: "32 px", 96: "64 px"}


def test_digits_say_true_and_predicted_label() -> None:
    rows = [row for row in rows_of(pictures.digits(full().examples)) if "says" in row]
    assert [row["says"] for row in rows if row["eps"] == "0.3"] == [f"{i} → 9" for i in range(5)]
    assert all(row["right"] for row in rows if row["eps"] == "0")


def test_losses_of_several_networks_share_one_scale() -> None:
    spec = json.dumps(curves.losses_side_by_side([log("a"), log("b")], "Figure 10", IN_FILE))
    assert spec.count('"domain": [0, 1.0]') >= 2
    rows = rows_of(curves.losses(log("a")))
    assert {(row["epoch"], row["loss"]) for row in rows if row["of"] == "validation loss"} == {
        (epoch, 0.5 / epoch) for epoch in range(1, 6)
    }


def test_the_logs_of_the_shipped_networks_come_with_assay() -> None:
    logs = {one.network: one for one in training_logs()}
    assert set(logs) == {*FIGURE_7, *FIGURE_10}
    for one in logs.values():
        assert [row["epoch"] for row in one.epochs] == list(range(1, 11))
        assert one.epochs[-1]["validation_loss"] < one.epochs[0]["validation_loss"]
        assert one.epochs[-1]["validation_accuracy"] > 0.9


def test_accuracies_have_intervals_where_counts_are_known() -> None:
    lines = lines_of(digits_table())
    assert (lines[0].mode, lines[0].row) == (PRINTED, "FGSM")
    assert len(lines) == 5 and len({line.label for line in lines}) == 5
    rows = rows_of(curves.accuracy(lines, "Figure 11"))
    printed = [row for row in rows if row["line"] == "printed"]
    assert [row["accuracy"] for row in printed] == [0.9291, 0.9211, 0.9111] and "low" not in printed[0]
    scaled = next(row for row in rows if row["line"] == f"corrected, {SCALED}" and row["eps"] == 0.3)
    assert (scaled["low"], scaled["high"]) == wilson(1, 1000) and scaled["grey"] == "76.5"
    legend = curves.accuracy_legend(lines)
    assert len({(entry["place"], entry["shape"]) for entry in legend}) == len(lines)


def test_a_table_without_budgets_has_no_lines() -> None:
    view = dataclasses.replace(digits_table(), columns=("resnet101", "alexnet", "regnet"))
    assert lines_of(view) == ()


def test_areas_of_the_histogram_are_shares() -> None:
    rows = [row for row in rows_of(masking.gaps([probe("a"), probe("b")])) if "density" in row]
    assert {row["network"] for row in rows} == {"a", "b"}
    mine = [row for row in rows if row["network"] == "a"]
    areas = [row["density"] * (math.log1p(row["high"] / 10) - math.log1p(row["low"] / 10)) for row in mine]
    assert areas == pytest.approx([0.05, 0.05, 0.9])
    assert "16.6: rounded" in json.dumps(masking.gaps([probe("a")])) and "104: all zero" in json.dumps(
        masking.gaps([probe("a")])
    )


def test_zeros_leave_out_what_could_not_be_computed() -> None:
    half = dataclasses.replace(probe("b"), zero_in_double=None)
    rows = rows_of(masking.zeros([probe("a"), half]))
    assert [(row["network"], row["in"]) for row in rows] == [("a", "float32"), ("a", "float64"), ("b", "float32")]


def test_temperatures_show_every_seed() -> None:
    rows = rows_of(masking.temperatures([temperature(1), temperature(100), temperature(100, 1)], 0.3))
    assert sum(row["of"] == masking.SCALED for row in rows) == 3
    assert masking.largest_eps([temperature(1)]) == 0.3 and masking.largest_eps([]) == 0.0
    assert drawing.still(masking.temperatures([temperature(100)], 0.3)) != ""


def test_in_the_page_colours_are_the_pages_own() -> None:
    for number in TITLES:
        for one in figure(full(), number).drawings:
            assert "var(--" in json.dumps(one.spec), one.name
    assert not any("var(" in json.dumps(spec) for _, spec in specs(full()))
