from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.evaluation.execution.lock import locked
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
