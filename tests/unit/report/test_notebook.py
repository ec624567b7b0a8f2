"""What an evaluation shows of itself in a notebook."""

from __future__ import annotations

import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import assay
from assay import report
from assay.report.groups import groups
from assay.report.headline import headline
from tests.support.fake_run import HOSTILE, fake_run


class Reader(HTMLParser):
    """Collects tags, attributes and text, and sees that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_sentence_the_curve_and_the_table_without_a_script(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    read = Reader()
    read.feed(report.notebook(run))
    assert read.open == []
    shown = groups(run)
    assert len(shown) == 2 and read.tags.count("svg") == read.tags.count("table") == 2
    for group in shown:
        assert str(headline(group)) in read.text
        for line in group.shown:
            assert read.text.count(line.label) >= 2  # in the curve's legend and in the table
    assert "not audited" in read.text and HOSTILE in read.text
    # the hostile name is text, here and inside the drawing
    assert not {"script", "img", "foreignobject", "iframe"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]


def test_show_displays_in_a_notebook_and_prints_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(tmp_path / "run", scenes=False)
    found = assay.Evaluation.open(tmp_path / "run")
    found.show()
    assert "zoo:mnist-cnn" in capsys.readouterr().out
    displayed: list[Any] = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=displayed.append))
    found.show()
    assert displayed == [found] and capsys.readouterr().out == ""
