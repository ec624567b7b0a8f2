from __future__ import annotations

import dataclasses
import errno
import fcntl
import itertools
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.evaluation.execution import lock
from assay.evaluation.execution.lock import Holder, InUse, entering, holding, locked, look
from tests.support.holders import elsewhere
from tests.support.tiny import run_here, study


def test_a_lock_is_held_and_let_go(tmp_path: Path) -> None:
    with locked(tmp_path) as taken_over:
        assert not taken_over
        with pytest.raises(BadInput, match="is being written by process"), locked(tmp_path):
            pass
    with locked(tmp_path) as taken_over:
        assert not taken_over


def test_a_run_does_not_write_where_another_does(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with locked(out), pytest.raises(BadInput, match="is being written by"):
        run_here(out, study(tiny_model, tiny_source, attacks="fgsm"))
    assert not list(out.rglob("*.parquet"))


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path) as taken_over:
        assert not taken_over


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    with locked(tmp_path) as taken_over:
        assert taken_over
    (tmp_path / "lock").write_text("half a na")
    with locked(tmp_path) as taken_over:
        assert not taken_over


def test_of_another_host_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(BadInput, match=r"process 1 on elsewhere. If that run is gone, delete .*lock"), locked(tmp_path):
        pass


def test_a_holder_elsewhere_that_gives_signs_of_life_is_left_alone(tmp_path: Path, hasty: None) -> None:
    said: list[str] = []
    refused = pytest.raises(InUse, match=r"process \d+ on node7. Wait for it")
    with elsewhere(tmp_path / "lock"), refused, holding(tmp_path / "lock", say=said.append):
        pass
    assert said and "Watching whether process" in said[0]


def test_a_holder_elsewhere_that_gives_none_is_taken_over(tmp_path: Path, hasty: None) -> None:
    with elsewhere(tmp_path / "lock", beats=False), locked(tmp_path) as taken_over:
        assert taken_over
        with pytest.raises(InUse, match="is being written by process"), locked(tmp_path):
            pass


def test_who_was_taken_over_finds_out(tmp_path: Path, hasty: None) -> None:
    with holding(tmp_path / "lock") as held:
        other = dataclasses.replace(Holder.here("run"), host="node7", machine="another")
        content = json.dumps(dataclasses.asdict(other)).encode()
        (tmp_path / "lock").write_bytes(content)
        end = time.monotonic() + 10
        while not held.lost:
            assert time.monotonic() < end, "it never looks"
            time.sleep(0.01)
    assert (tmp_path / "lock").read_bytes() == content, "the other's name is left alone"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks_goes_by_signs_of_life(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path) as taken_over:
        assert not taken_over
        with pytest.raises(InUse, match="is being written by process"), locked(tmp_path):
            pass
    with elsewhere(tmp_path / "lock", beats=False), locked(tmp_path) as taken_over:
        assert taken_over
    with locked(tmp_path) as taken_over:
        assert not taken_over


def test_signs_of_life_need_no_room(tmp_path: Path, hasty: None) -> None:
    path = tmp_path / "lock"
    with holding(path, "share 3/8") as held:
        size, first = path.stat().st_size, Holder.of(path.read_bytes())
        held.tell(12, 40)
        end = time.monotonic() + 10
        while (now := Holder.of(path.read_bytes())) is None or (now.beat or 0) < 3:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert path.stat().st_size == size
        assert first is not None and (now.units, now.planned, now.token) == (12, 40, first.token)
        assert str(now) == f"share 3/8 (process {os.getpid()} on {socket.gethostname()})"
        assert [one.alive for one in look([path], seconds=0)] == [True]
    assert path.read_bytes() == b"" and look([path]) == []


def test_one_looks_at_all_that_are_elsewhere_at_once(tmp_path: Path, hasty: None) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    with elsewhere(paths[0], "share 1/3"), elsewhere(paths[1], beats=False), locked(tmp_path):
        assert [one.alive for one in look(paths, seconds=0)] == [None, None]
        assert [one.alive for one in look([*paths, tmp_path / "lock"])] == [True, False, True]
        # for a while alone nothing is known of one that is silent
        assert [one.alive for one in look(paths, seconds=0.3)] == [True, None]


def test_one_waits_for_those_that_pass_and_not_for_runs(
    tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_NAMING", 0.1)
    entered: list[float] = []

    def pass_by() -> None:
        with entering(tmp_path):
            entered.append(time.monotonic())
            time.sleep(0.3)

    threads = [threading.Thread(target=pass_by) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(entered) == 3 and all(b - a >= 0.3 for a, b in itertools.pairwise(sorted(entered)))
    with locked(tmp_path), pytest.raises(InUse, match="is being written by process"), entering(tmp_path):
        pass


def test_in_a_job_array_the_way_to_share_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    with locked(tmp_path), pytest.raises(InUse, match="--share slurm gives each task its part"), locked(tmp_path):
        pass
