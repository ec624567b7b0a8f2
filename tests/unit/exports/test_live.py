"""Trackers hear of a run while it goes on, and cannot end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import assay
from assay.core.errors import BadInput
from assay.evaluation.execution.progress import Progress
from assay.evaluation.run import Run
from assay.exports import live
from tests.support.hostile_run import Brightest


class Notes:
    """A tracker that notes what it hears, and fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.heard: list[tuple[str, Any]] = []

    def _note(self, what: str, value: Any) -> None:
        self.heard.append((what, value))
        if self.fails == what:
            raise ConnectionError("no route to http://me:secret@host/x")

    def hear(self, folder: Path, now: Progress) -> None:
        self._note("hear", (folder, now))

    def end(self, run: Run) -> None:
        self._note("end", run)

    def fail(self, stopped: bool) -> None:
        self._note("fail", stopped)


def tracked(monkeypatch: pytest.MonkeyPatch, notes: Notes, out: Path, **settings: Any) -> assay.Evaluation:
    monkeypatch.setitem(live.TRACKERS, "notes", lambda: notes)
    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        data = TensorDataset(x, Brightest()(x).argmax(1))
    how = {"audit": "off", "doctor": False, "track": "notes", "chunk": 6, **settings}
    return assay.evaluate(Brightest(), data, ["fgsm", "bim"], assay.Linf("8/255"), out, **how)


def test_it_hears_of_every_cell_and_of_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notes = Notes()
    found = tracked(monkeypatch, notes, tmp_path / "run")
    finished = [now.cell.digest for what, (_, now) in notes.heard[:-1] if now.cell_finished]
    assert finished == list(found.run.cells)
    assert {folder for what, (folder, _) in notes.heard[:-1]} == {tmp_path / "run"}
    assert len(notes.heard) == 5
    assert notes.heard[-1][0] == "end" and notes.heard[-1][1].results() == found.results()


def test_the_same_call_again_tells_the_numbers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tracked(monkeypatch, Notes(), tmp_path / "run")
    notes = Notes()
    tracked(monkeypatch, notes, tmp_path / "run")
    assert [what for what, _ in notes.heard] == ["end"]


@pytest.mark.parametrize("where", ["hear", "end"])
def test_one_that_fails_is_warned_of_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    notes = Notes(where)
    with pytest.warns(assay.AssayWarning) as warned:
        found = tracked(monkeypatch, notes, tmp_path / "run")
    assert found.run.status == "success" and len(found.results()) == 2
    (warning,) = warned
    said = str(warning.message)
    assert said.startswith("notes could not be told of this run (ConnectionError: no route to http://host/x).")
    assert "`assay export DIR --to notes`" in said
    # after the first failure nothing more is tried
    assert [what for what, _ in notes.heard].count(where) == 1 and notes.heard[-1][0] == where


def test_a_run_that_is_stopped_or_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(error: BaseException) -> Any:
        def hear(now: Progress) -> None:
            if now.units == 2:
                raise error

        return hear

    for number, (error, stopped) in enumerate(((KeyboardInterrupt(), True), (RuntimeError("x"), False))):
        notes = Notes()
        with pytest.raises(type(error)):
            tracked(monkeypatch, notes, tmp_path / str(number), on_progress=stop(error))
        assert notes.heard[-1] == ("fail", stopped)


def test_unknown_and_missing_trackers_are_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"track is 'mlfow'\. Did you mean 'mlflow'\? There is: mlflow"):
        tracked(monkeypatch, Notes(), tmp_path / "run", track="mlfow")
    monkeypatch.setattr("assay.exports.extras.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"MLflow is not installed\. Install it with: pip install 'assay\[mlflow\]'"):
        tracked(monkeypatch, Notes(), tmp_path / "run", track="mlflow")
    assert not (tmp_path / "run").exists()


def test_an_audit_is_not_taken_for_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notes = Notes()
    tracked(monkeypatch, notes, tmp_path / "run", audit="quick")
    assert sum(what == "hear" and value[1].cell_finished for what, value in notes.heard) == 2
    assert notes.heard[-1][1].verdicts()
