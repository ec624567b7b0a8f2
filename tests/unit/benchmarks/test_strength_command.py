"""`python -m benchmarks.strength`: references run once, ours always, and the exit code says who is weaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.strength import __main__ as command
from benchmarks.strength.board import OURS, Task

ROW = "square-l2-2.5@cnn"


class Stage:
    """Stands in for the processes: notes who ran, and gives everyone as many survivors as told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.survivors = {OURS: 1, "pyautoattack": 1}
        self.failure: dict[str, dict[str, Any]] = {}

    def run(self, task: Task, seconds: float) -> dict[str, Any]:
        library = task.contender.library
        self.ran.append(library)
        left = self.survivors[library]
        told = {"mistakes": 0, "images": 4, "forwards": 1.0, "backwards": 1.0, "cpu": 1.0, "wall": 1.0}
        return self.failure.get(library) or {"sizes": [None] * left + [0.1] * (4 - left), **told}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(command, "run_child", stage.run)
    # without the libraries there is no version to read
    monkeypatch.setattr(command, "_key", lambda task: f"key of {task.contender.name}")
    return stage


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    monkeypatch.setattr("sys.argv", ["strength", ROW, "--folder", str(folder), *more])
    return command.main()


def test_references_run_once_and_ours_always(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert call(monkeypatch, tmp_path) == 0
    assert call(monkeypatch, tmp_path) == 0
    assert stage.ran == [OURS, "pyautoattack", OURS]
    assert call(monkeypatch, tmp_path, "--force") == 0
    assert stage.ran[3:] == [OURS, "pyautoattack"]
    assert list(json.loads((tmp_path / "cache.json").read_text())) == ["key of pyautoattack square"]
    results = json.loads((tmp_path / "results.json").read_text())[ROW]["results"]
    assert [one["robust"] for one in results.values()] == [0.25, 0.25]
    assert ROW in (tmp_path / "results.md").read_text()


def test_a_weaker_row_or_a_failure_of_ours_is_exit_code_1(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage.survivors[OURS] = 2
    assert call(monkeypatch, tmp_path) == 1
    stage.failure[OURS] = {"failed": "ValueError: no"}
    assert call(monkeypatch, tmp_path) == 1
    stage.failure[OURS] = {"absent": "not in the table yet"}
    assert call(monkeypatch, tmp_path) == 0


def test_one_side_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert call(monkeypatch, tmp_path, "--no-peers") == 0
    assert call(monkeypatch, tmp_path, "--peers-only") == 0
    assert stage.ran == [OURS, "pyautoattack"]
    # what the other run found is still on the board
    assert len(json.loads((tmp_path / "results.json").read_text())[ROW]["results"]) == 2


def test_a_try_on_fewer_images_stays_off_the_board(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert call(monkeypatch, tmp_path, "--images", "2") == 0
    assert stage.ran == [OURS, "pyautoattack"]
    assert not (tmp_path / "results.json").exists()


def test_a_pattern_that_names_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["strength", "no-such-row", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit, match="no-such-row"):
        command.main()


def test_the_list_names_every_row_and_runs_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["strength", "--list"])
    assert command.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(command.rows())
    assert stage.ran == []


def test_rows_of_random_starts_are_means_over_seeds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tasks: list[Task] = []

    def run(task: Task, seconds: float) -> dict[str, Any]:
        tasks.append(task)
        stage.survivors[OURS] = 1 + task.contender.seed % 2
        return stage.run(task, seconds)

    monkeypatch.setattr(command, "run_child", run)
    monkeypatch.setattr(command, "_key", lambda task: f"{task.contender}")
    monkeypatch.setattr("sys.argv", ["strength", "apgd-dlr-l2-1.5@cnn", "--folder", str(tmp_path)])
    stage.survivors["adv-lib"] = 1
    # two seeds of five leave one image of four more: that is chance
    assert command.main() == 0
    assert [task.contender.seed for task in tasks] == [0, 1, 2, 3, 4] * 3
    # the authors' package sets its own seed, whatever the caller's
    theirs = [task.contender.options.get("seed") for task in tasks if task.contender.library == "pyautoattack"]
    assert theirs == [None, 1, 2, 3, 4]
    results = json.loads((tmp_path / "results.json").read_text())["apgd-dlr-l2-1.5@cnn"]["results"]
    own = next(iter(results.values()))
    assert (own["robust"], own["seeds"]) == (0.35, 5)
    assert own["error"] == pytest.approx(0.0612, abs=1e-4)
    assert "0.350 survive (5 seeds, standard error 0.061)" in (tmp_path / "results.md").read_text()
