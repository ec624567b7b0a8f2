"""Pairs of a model and its judge in tables, files and the page."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

import assay
from assay import report
from assay.evaluation.analysis.pairs import Pair, PairTable
from assay.evaluation.run import Run
from assay.report import pairs
from assay.report.numbers import as_plain
from assay.report.theme import IN_FILE
from tests.support.tiny import data
from tests.unit.evaluation.test_judge import Linear, scores


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    judge = assay.load_model(scores(), access="scores", identity="s")
    threats = [assay.Linf(8 / 255), assay.Linf(24 / 255)]
    return assay.evaluate(
        Linear(), data(24), ["fgsm", {"attack": "pgd", "steps": 3}], threats, tmp_path_factory.mktemp("run"),
        judge=judge, audit="off", doctor=False,
    ).run  # fmt: skip


@pytest.fixture(scope="module")
def table() -> PairTable:
    """Return a pair of which the judge keeps 12 of 200 more, and one of which nothing is left."""
    some = Pair(0.1, "0.1", 200, 190, 188, both=100, only_model=3, only_judge=15, broke=80, carried=65)
    none = Pair(0.2, "0.2", 200, 190, 188, both=0, only_model=0, only_judge=0, broke=185, carried=185)
    return PairTable(
        "net", "file", "set", "linf", "pixel", "worst_case", "untargeted", "pgd", (some, none), (("a",), ("b",))
    )


def test_a_row_says_both_numbers_their_difference_and_how_sure_it_is(table: PairTable) -> None:
    head, first, last = pairs.texts(table)
    assert head == list(pairs.COLUMNS)
    low, high = table.pairs[0].low, table.pairs[0].high
    assert first[:4] == ["0.1", "51.5\u00a0%", "57.5\u00a0%", "+6.0"]
    assert first[4] == f"[+{100 * low:.1f}, +{100 * high:.1f}]" and 0 < low < 0.06 < high
    assert first[5:] == ["15", "3", "65/80", ".008"]
    assert last[1:4] == ["0.0\u00a0%", "0.0\u00a0%", "0.0"] and last[-1] == "1.000"
    assert any("the model has 95.0\u00a0% right, the judge 94.0\u00a0%" in line for line in pairs.lines(table))


def test_every_form_has_the_pairs(run: Run, tmp_path: Path) -> None:
    found = run.pairs()
    assert [one.attack for one in found] == ["fgsm", "pgd(steps=3)", "worst case of 2"]
    stream = io.StringIO()
    report.terminal(run, Console(file=stream, width=100))
    texts = {"terminal": stream.getvalue(), "md": report.markdown(run), "tex": report.latex(run),
             "notebook": report.notebook(run)}  # fmt: skip
    for name, text in texts.items():
        told = text.replace("\\", "").replace("\n", " ")
        assert "judges" in told, name
        assert told.count("Tango") == 1, name
    written = [row for row in csv.DictReader(io.StringIO(report.csv(run))) if row["judge"]]
    assert len(written) == 6
    plain = as_plain(run)["pairs"]
    for row, one in zip(written, [pair for each in plain for pair in each["pairs"]], strict=True):
        assert float(row["difference"]) == one["difference"]
        assert (int(row["only_judge"]), int(row["only_model"])) == (one["only_judge"], one["only_model"])
    page = report.page(run, tmp_path / "page.html").read_text()
    assert 'id="pairs"' in page and page.count("judges images made on") == 3
    assert "worst case of 2" in page
    names = [path.stem for path in report.figures(run, tmp_path / "figures")]
    assert sum(name.startswith("pair-") for name in names) == 3


def test_the_curve_begins_without_an_attack_and_shades_the_gap(table: PairTable) -> None:
    layers = pairs.curve(table, IN_FILE)["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["area", "rule", "line", "point"]
    spec = pairs.curve(table, IN_FILE)
    values = [row for each in spec.get("datasets", {}).values() for row in each] or layers[2]["data"]["values"]
    both = {(row["side"], row["eps"]): row["accuracy"] for row in values}
    assert both["model", 0.0] == 0.95 and both["judge", 0.0] == 0.94
    assert (both["model", 0.1], both["judge", 0.1]) == (0.515, 0.575)


def test_a_run_without_a_judge_says_nothing_of_pairs(tmp_path: Path) -> None:
    plain = assay.evaluate(Linear(), data(12), "fgsm", assay.Linf(0.1), tmp_path, audit="off", doctor=False).run
    assert "pairs" not in as_plain(plain)
    assert "judges" not in report.markdown(plain) + report.csv(plain)
