from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from altair.utils import schemapi

from assay.paper.inputs import PaperContents
from assay.paper.page import page, paper_headline, weakest
from assay.paper.tables import AS_PUBLISHED, CORRECTED
from assay.report import export as drawing
from tests.support.fake_paper import HOSTILE, SCALED, digits_table, full, stand_in_table
from tests.support.fake_run import HOSTILE_FILE
from tests.support.html_reader import ALLOWED, Reader

PARTS = [field.name for field in dataclasses.fields(PaperContents)]


def read(contents: PaperContents, folder: Path) -> Reader:
    reader = Reader()
    reader.feed(page(contents, folder / "deep" / "paper.html").read_text("utf-8"))
    return reader


def text_of(reader: Reader) -> str:
    return " ".join("".join(reader.text).split())


@pytest.fixture(scope="module", autouse=True)
def each_chart_is_drawn_once() -> Iterator[None]:
    """The pages here hold mostly the same charts, and drawing and checking them is nearly all that a page takes."""
    draw = drawing.still

    @functools.cache
    def drawn(spec: str) -> str:
        return draw(json.loads(spec))

    # test_figures.py has the charts checked against the schema
    with schemapi.debug_mode(False), pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawing, "still", lambda spec: drawn(json.dumps(spec)))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return read(full(), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return read(PaperContents(), tmp_path_factory.mktemp("page"))


def test_the_policy_allows_exactly_what_the_page_holds(whole: Reader) -> None:
    policy = next(attrs["content"] for _, attrs in whole.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "unsafe" not in policy
    kinds = [attrs.get("type") for tag, attrs in whole.tags if tag == "script"]
    code = [text for text, kind in zip(whole.inside["script"], kinds, strict=True) if kind is None]
    assert len(code) == 2 and len(whole.inside["style"]) == 1 and ".paper-table" in whole.inside["style"][0]
    for text in [*code, *whole.inside["style"]]:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_nothing_is_loaded_and_names_stay_text(whole: Reader) -> None:
    assert {tag for tag, _ in whole.tags} <= ALLOWED | {"details", "summary", "image", "defs", "clippath"}
    for tag, attrs in whole.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert text_of(whole).count(HOSTILE) > 10 and HOSTILE_FILE in text_of(whole)


def test_every_chart_has_its_specification_and_a_still(whole: Reader) -> None:
    kinds = [(attrs.get("type"), attrs.get("id")) for tag, attrs in whole.tags if tag == "script"]
    specs = {
        name: json.loads(text)
        for text, (kind, name) in zip(whole.inside["script"], kinds, strict=True)
        if kind == "application/json"
    }
    charts = [attrs["id"] for _, attrs in whole.tags if attrs.get("class") == "chart"]
    assert [f"{name}-spec" for name in charts] == list(specs)
    assert {str(name).rsplit("-", 1)[0] for name in charts} >= {"figure-1", "figure-2", "figure-4", "masking"}
    assert sum(attrs.get("class") == "marks" for tag, attrs in whole.tags if tag == "svg") == len(charts)


def test_the_headline_is_computed_from_what_was_measured(whole: Reader, tmp_path: Path) -> None:
    assert "The paper prints 91.1 % accuracy for its defended network at eps 0.3".replace(" %", "\u00a0%") in "".join(
        whole.text
    ).replace("\n", " ")
    assert "0.1\u00a0%" in "".join(whole.text)
    naive = dataclasses.replace(digits_table(), rows=digits_table().rows[:1])
    text = text_of(read(PaperContents(views=(naive,)), tmp_path))
    assert "met to within 13.1 points" in text and "Table XIV, FGSM, 0.3" in text


def test_a_headline_about_one_step_is_of_one_step(tmp_path: Path) -> None:
    naive, scaled = digits_table().rows
    strong = dataclasses.replace(
        scaled, name="Carlini-Wagner", measured={CORRECTED: (0.9, 0.2, 0.0)}, counts={CORRECTED: ((90, 100),) * 3}
    )
    view = dataclasses.replace(digits_table(), rows=(naive, scaled, strong))
    contents = PaperContents(views=(view,))
    assert paper_headline(contents).left == "0.1\u00a0%"
    found = weakest(contents)
    assert found is not None and found[0].row == "Carlini-Wagner"
    text = text_of(read(contents, tmp_path))
    assert "Carlini-Wagner leaves an accuracy of 0.0" in text and "One step is not a strong attack" not in text


def test_of_two_attacks_that_leave_as_little_the_one_on_more_images_is_named() -> None:
    naive, scaled = digits_table().rows
    few = dataclasses.replace(
        scaled, name="AutoAttack, 30 images", measured={CORRECTED: (None, 0.2, 0.001)},
        counts={CORRECTED: (None, (6, 30), (0, 30))},
    )  # fmt: skip
    found = weakest(PaperContents(views=(dataclasses.replace(digits_table(), rows=(naive, few, scaled)),)))
    assert found is not None and found[0].row == SCALED


def test_the_smallest_changes_are_shown_with_class_and_distance(whole: Reader, bare: Reader) -> None:
    text = text_of(whole)
    assert "The median over 2 digits is 2.00 on mnist-cnn and 1.00 on" in text and "moved no boundary away" in text
    assert "3, L₂ 1.50" in text and "9, L₂ 0.50" in text
    shown = [attrs["href"] for tag, attrs in whole.tags if tag == "image" and attrs.get("width") == "28"]
    assert len(shown) == 6 and all((one or "").startswith("data:image/png;base64,") for one in shown)
    assert "No pictures of the smallest changes yet: assay paper run --table XIV" in text_of(bare)


def is_apart(tag: str, attrs: dict[str, str | None]) -> bool:
    return tag == "td" and (attrs.get("class") or "").startswith("apart")


def test_differences_have_a_sign_a_number_and_a_bar_on_its_side(whole: Reader) -> None:
    text = text_of(whole)
    assert "−13.1" in text and "+1.1" in text and "Bars reach to 15 points" in text
    after = zip(whole.tags, whole.tags[3:], strict=False)  # td, svg, path, rect
    bars = [attrs for cell, (tag, attrs) in after if is_apart(*cell) and tag == "rect"]
    starts = [(float(one["x"] or 0), float(one["width"] or 0)) for one in bars]
    assert all(x == 50 or x + width == pytest.approx(50, abs=0.02) for x, width in starts)
    assert len(starts) == 3 * 2 * 2  # budgets, modes, tables
    assert any(x == 50 and width > 0 for x, width in starts) and any(x < 50 for x, width in starts)


def test_a_stand_in_is_marked_and_not_compared(tmp_path: Path) -> None:
    text = text_of(read(PaperContents(views=(stand_in_table(),)), tmp_path))
    assert "Stand-in." in text and "cannot be compared" in text and "minus printed, points" not in text
    assert "Nothing that can be compared" in text


def test_shares_of_two_classes_are_not_compared(tmp_path: Path) -> None:
    view = next(view for view in full().views if view.number == "II")
    text = text_of(read(PaperContents(views=(view,)), tmp_path))
    assert "−10.0" in text and "+5.0" not in text


def test_what_is_missing_says_what_to_run(bare: Reader) -> None:
    text = text_of(bare)
    for needed in (
        "Nothing that can be compared with the paper has been measured yet", "assay paper run --table XIII --table XIV",
        *(f"Not measured: assay paper run --table {number}" for number in ("I", "VII", "XII", "XIV")),
        *(f"Figure {number} " for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)),
        "No probes yet", "No students of other temperatures", "No finished runs",
    ):  # fmt: skip
        assert needed in text, needed


@pytest.mark.parametrize("part", PARTS)
def test_any_part_may_be_missing(tmp_path: Path, part: str) -> None:
    field = next(field for field in dataclasses.fields(PaperContents) if field.name == part)
    empty = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    text = text_of(read(dataclasses.replace(full(), **{part: empty}), tmp_path))
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert all(f"Table {number} " in text for number in ("I", "V", "IX", "XIV"))


def test_it_says_what_a_reader_must_know(whole: Reader) -> None:
    text = text_of(whole)
    for needed in (
        "As published", "Corrected", "1.17", "1.15", "76.5", "Not reportable.", "not yet measured", SCALED,
        "exactly zero for 90.0\u00a0% in float32 and for 22.5\u00a0% in float64".replace("\u00a0", " "), "8d2f0c9b",
        "assay paper run --table XIV",
    ):  # fmt: skip
        assert needed in text, needed


def test_every_table_can_be_reached_from_the_top(whole: Reader) -> None:
    targets = {attrs.get("id") for _, attrs in whole.tags}
    links = [attrs["href"] for tag, attrs in whole.tags if tag == "a" and (attrs.get("href") or "").startswith("#")]
    assert len([link for link in links if (link or "").startswith("#table-")]) == 14
    assert {(link or "")[1:] for link in links} <= targets


def test_nothing_is_said_twice(tmp_path: Path) -> None:
    said = ("An erratum.", "Unfit: too few images.", "Far apart.", "Far apart.")
    view = dataclasses.replace(digits_table(), sentences=said)
    unfit = dict.fromkeys(view.runs.values(), ("too few images",))
    text = text_of(read(PaperContents(views=(view,), errata={"XIV": ("An erratum.",)}, unfit=unfit), tmp_path))
    assert [text.count(one) for one in ("An erratum.", "too few images", "Far apart.")] == [1, 1, 1]


def test_one_run_for_both_modes_has_one_column(tmp_path: Path) -> None:
    view = digits_table()
    shared = dataclasses.replace(view, runs=dict.fromkeys(view.runs, Path("runs/one")))
    text = text_of(read(PaperContents(views=(shared,)), tmp_path))
    assert text.count("minus printed, points") == 1 and "both modes" in text and "Run: runs/one" in text


def test_printed_and_measured_rows_of_other_images_stand_apart(tmp_path: Path) -> None:
    view = next(view for view in full().views if view.number == "II")
    other = dataclasses.replace(
        view.rows[0], name="beaker", printed=(None, None), labels={AS_PUBLISHED: ("beaker", "jug")}
    )
    printed = dataclasses.replace(view.rows[0], measured={})
    text = text_of(read(PaperContents(views=(dataclasses.replace(view, rows=(other, printed)),)), tmp_path))
    assert text.index("beaker") < text.index("printed, by rank") < text.index("0.9996")


def test_a_mode_that_was_not_measured_has_no_column(tmp_path: Path) -> None:
    view = digits_table()
    rows = tuple(
        dataclasses.replace(
            row, measured={AS_PUBLISHED: row.measured[AS_PUBLISHED]}, counts={AS_PUBLISHED: row.counts[AS_PUBLISHED]}
        )
        for row in view.rows
    )
    reader = read(PaperContents(views=(dataclasses.replace(view, rows=rows),)), tmp_path)
    assert text_of(reader).count("minus printed, points") == 1
