from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.training.checkpoint import Checkpoint

ROWS = [{"epoch": 1, "loss": 0.5}]


def checkpoint(folder: Path, module: nn.Module, **training: str) -> Checkpoint:
    return Checkpoint(folder, {"model": module}, {"settings": "a", **training})


def test_it_comes_back(tmp_path: Path) -> None:
    saved, loaded = nn.Linear(2, 2), nn.Linear(2, 2)
    assert checkpoint(tmp_path / "new", loaded).restore() == []
    checkpoint(tmp_path / "new", saved).save(ROWS)
    assert checkpoint(tmp_path / "new", loaded).restore() == ROWS
    assert torch.equal(saved.weight, loaded.weight)


def test_a_log_behind_the_checkpoint_is_repaired(tmp_path: Path) -> None:
    checkpoint(tmp_path, nn.Linear(2, 2)).save(ROWS)
    (tmp_path / "log.jsonl").unlink()
    checkpoint(tmp_path, nn.Linear(2, 2)).restore()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == ROWS[0]


def test_another_training_is_refused_with_what_differs(tmp_path: Path) -> None:
    checkpoint(tmp_path, nn.Linear(2, 2)).save(ROWS)
    with pytest.raises(BadInput, match=r"holds another training: \{'settings': 'a'\} there, \{'settings': 'b'\} here"):
        checkpoint(tmp_path, nn.Linear(2, 2), settings="b").restore()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_brings_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"training": {}, "parts": Malicious(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(BadInput, match="is no checkpoint of a training"):
        checkpoint(tmp_path, nn.Linear(2, 2)).restore()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(BadInput, match=r"checkpoint.pt is no checkpoint.*Delete it"):
        checkpoint(tmp_path, nn.Linear(2, 2)).restore()
