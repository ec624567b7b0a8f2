from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from assay.paper.commands.paper import PAGE, report

APP = typer.Typer()
APP.command()(report)


def test_the_page_goes_into_the_directory_of_the_runs(tmp_path: Path) -> None:
    said = CliRunner().invoke(APP, ["--out", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert str(tmp_path / PAGE) in said.stdout
    assert "<h2>Table XIV" in (tmp_path / PAGE).read_text("utf-8")


# tests/unit/paper/test_figures.py draws all as SVG
@pytest.mark.parametrize("format", [pytest.param("svg", marks=pytest.mark.slow), "pdf"])
def test_figures_are_files(tmp_path: Path, format: str) -> None:
    said = CliRunner().invoke(APP, ["--out", str(tmp_path), "--figures", str(tmp_path / "f"), "--format", format])
    assert said.exit_code == 0, said.output
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        *(f"figure-{number}.{format}" for number in (7, 8, 9, 10, 11)), f"masking-temperatures.{format}",
    }  # fmt: skip
    assert not (tmp_path / PAGE).exists()
