from __future__ import annotations

import io
import sys
import types

import pytest

from assay.display import Cell, Display, Lines, chosen, chosen_in_python, progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_first_last_and_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines("Attacking", clock)
    for second in range(25):
        clock.now = 100.0 + second
        lines.update(second / 24, f"{second} of 24 records", 24 - second)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Attacking    0 %  0 of 24 records  24 s left",
        "Attacking   42 %  10 of 24 records  14 s left",
        "Attacking   83 %  20 of 24 records  4 s left",
        "Attacking  100 %  24 of 24 records",
    ]


def test_the_end_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("Attacking", Clock())
    for _ in range(3):
        lines.update(1.0, "", None)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_shown_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Attacking", Display.NONE) as watch:
        watch.update(0.5, "half", 3.0)
        watch.tell("a number")
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sit_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # within the test: pytest puts its own file there between a fixture and its test
    file = Terminal()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    return file


def test_live_bars_show_share_time_and_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at_a_terminal(monkeypatch)
    with progress("Attacking", Display.FULL) as watch:
        watch.update(0.25, "3 of [bold]12[/bold]", 300.0)
        watch.tell("[red]fgsm[/red]: 12 %")
    shown = terminal.getvalue()
    for part in ("Attacking", "25%", "5 min left", "[bold]12[/bold]", "[red]fgsm[/red]: 12 %"):
        assert part in shown


def test_work_that_has_nothing_to_do_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at_a_terminal(monkeypatch)
    with progress("Auditing", Display.FULL) as watch:
        watch.tell("nothing to audit")
    assert terminal.getvalue() == "nothing to audit\n"


def test_a_person_at_a_terminal_gets_live_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    sit_at_a_terminal(monkeypatch)
    assert chosen(None) is Display.FULL
    assert chosen(Display.PLAIN) is Display.PLAIN


@pytest.mark.parametrize("setting", [("CI", "true"), ("TERM", "dumb")])
def test_no_live_bars_in_ci(monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]) -> None:
    sit_at_a_terminal(monkeypatch)
    monkeypatch.setenv(*setting)
    assert chosen(None) is Display.PLAIN
    assert chosen(Display.FULL) is Display.PLAIN


def test_no_live_bars_without_a_terminal() -> None:
    assert chosen(Display.FULL) is Display.PLAIN
    assert chosen(Display.NONE) is Display.NONE


def test_python_shows_progress_to_a_person_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_in_python("auto") is Display.NONE
    assert chosen_in_python("plain") is Display.PLAIN
    sit_at_a_terminal(monkeypatch)
    assert chosen_in_python("auto") is Display.FULL
    with pytest.raises(ValueError, match="loud"):
        chosen_in_python("loud")


class Shown:
    """What a notebook shows below a cell."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def display(self, data: dict[str, str], raw: bool, display_id: bool) -> Shown:
        self.update(data, raw)
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self.texts.append(data["text/plain"])


def sit_at_a_notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown, shell = Shown(), types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=shown.display))
    return shown


def test_a_notebook_shows_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = sit_at_a_notebook(monkeypatch)
    assert chosen_in_python("auto") is Display.FULL
    with progress("Attacking", Display.FULL) as watch:
        assert isinstance(watch, Cell)
        watch.update(0.25, "3 of 12 records", 300.0)
        watch.tell("fgsm: 12 %")
        watch.update(1.0, "", 0.0)
    assert shown.texts[0] == "Attacking   25 %  3 of 12 records  5 min left"
    assert shown.texts[-1] == "fgsm: 12 %\nAttacking  100 %"
