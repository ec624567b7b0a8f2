from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from assay.evaluation.run import Run
from assay.report.tables import terminal
from tests.support.fake_run import HOSTILE, Rows, fake_run, with_manifest


def printed(run: Run, width: int) -> str:
    stream = io.StringIO()
    terminal(run, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 80, 120])
def test_no_line_is_wider_than_the_terminal(run: Run, width: int) -> None:
    assert max(map(len, printed(run, width).splitlines())) <= width


def test_eighty_columns_hold_a_column_per_budget(run: Run) -> None:
    text = printed(run, 80)
    head = next(line for line in text.splitlines() if line.startswith("eps"))
    assert head.split() == ["eps", "0.007", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2", "0.3"]
    grey = next(line for line in text.splitlines() if line.startswith("grey levels"))
    assert grey.split()[2:] == ["1.8", "2.6", "5.1", "7.6", "12.8", "25.5", "51", "76.5"]


def test_a_narrow_terminal_gets_a_row_per_budget_with_the_same_numbers(run: Run) -> None:
    result = next(result for result in run.results() if result.eps == 0.1 and result.attack == "fgsm")
    kept = f"{100 * result.robust_accuracy:.0f}"
    assert f" {kept} [" in next(line for line in printed(run, 50).splitlines() if " 0.1 " in line)
    assert kept in next(line for line in printed(run, 80).splitlines() if line.startswith("fgsm")).split()


def test_what_must_be_known_stands_under_the_numbers(run: Run) -> None:
    text = printed(run, 120)
    assert text.count("fgsm: one attack, not robustness") == 2
    assert "worst case: image by image, over bim(steps=10), pgd(steps=40)" in text
    assert "Not reportable: 20 pictures in folder:~/photos: too few to report" in text
    assert f"folder:~/photos {HOSTILE}" in text


def test_rich_markup_in_names_stays_text(tmp_path: Path) -> None:
    def renamed(rows: Rows) -> Rows:
        return [{**row, "model": "[red]m[/red]", "attack": "[bold]a[/bold]"} for row in rows]

    named = fake_run(tmp_path, scenes=False, digits=20, change=renamed)
    named = with_manifest(named, models={"[red]m[/red]": {"std": [0.3]}})
    text = printed(named, 120)
    assert "[red]m[/red]" in text and "[bold]a[/bold]" in text


def test_errors_are_told_and_are_in_no_number(tmp_path: Path) -> None:
    def broken(rows: Rows) -> Rows:
        lost = {"mnist/test/00000", "mnist/test/00001"}
        return [{**row, "status": "error"} if row["sample_id"] in lost else row for row in rows]

    text = printed(fake_run(tmp_path, scenes=False, digits=20, change=broken), 120)
    assert "2 images could not be judged" in text and "18 images" in text


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    assert "No results yet." in printed(fake_run(tmp_path, change=lambda rows: []), 80)
