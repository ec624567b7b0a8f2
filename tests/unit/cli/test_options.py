from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from assay.console.dataclass_options import expanded


@dataclasses.dataclass(frozen=True)
class Size:
    name: Annotated[str, typer.Argument()]
    width: Annotated[int, typer.Option(help="How wide.")] = 3
    tags: Annotated[list[str] | None, typer.Option("--tag")] = None


@dataclasses.dataclass(frozen=True)
class Colour:
    dark: Annotated[bool, typer.Option("--dark/--light")] = False


@pytest.fixture
def told() -> tuple[typer.Typer, list[tuple[Size, bool, Colour]]]:
    app, calls = typer.Typer(), []

    def paint(size: Size, colour: Colour, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        """Paint."""
        calls.append((size, loud, colour))

    app.command()(expanded(paint))
    return app, calls


def test_fields_become_parameters(told: tuple[typer.Typer, list[tuple[Size, bool, Colour]]]) -> None:
    app, calls = told
    line = ["wall", "--width", "5", "--tag", "a", "--tag", "b", "--dark", "--loud"]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert calls == [(Size("wall", 5, ["a", "b"]), True, Colour(True))]


def test_defaults_are_those_of_the_dataclass(told: tuple[typer.Typer, list[tuple[Size, bool, Colour]]]) -> None:
    app, calls = told
    assert CliRunner().invoke(app, ["wall"]).exit_code == 0
    ((size, loud, colour),) = calls
    assert (size.width, size.tags or None, loud, colour) == (3, None, False, Colour())


def test_wrong_values_are_refused_and_help_is_kept(told: tuple[typer.Typer, list[tuple[Size, bool, Colour]]]) -> None:
    app, calls = told
    assert CliRunner().invoke(app, ["wall", "--width", "wide"]).exit_code == 2
    assert not calls
    assert "How wide." in CliRunner().invoke(app, ["--help"]).output
