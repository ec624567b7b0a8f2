from __future__ import annotations

import io
import sys

import pytest

from assay.console.output import out, say, spoken_command, write


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_data_goes_to_standard_output_and_the_rest_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    write("data")
    say("[bold]about the work[/bold]")
    assert capsys.readouterr() == ("data\n", "[bold]about the work[/bold]\n")


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Terminal()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setenv("TERM", "xterm-256color")
    out().print("text", style="red")
    assert file.getvalue() == "text\n"
    monkeypatch.delenv("NO_COLOR")
    out().print("text", style="red")
    assert "\x1b[31m" in file.getvalue()


def test_tables_have_room_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert out().width == 120


def test_commands_can_be_typed_again() -> None:
    assert spoken_command(["run", "--eps", "normalized 0.02"]) == "assay run --eps 'normalized 0.02'"
