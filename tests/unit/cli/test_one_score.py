"""Binary models with one score per image on the command line, from the doctor to the audit and patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import assay
from tests.support.workplace import Workplace

MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shift=0.0, after=lambda score: score):
        super().__init__()
        self.features, self.last, self.after = nn.Conv2d(1, 4, 3), nn.Linear(4, 1), after
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(4)[:, :1, None, None].expand(4, 1, 3, 3) / 9)
            self.features.bias.zero_()
            self.last.weight.fill_(20.0)
            self.last.bias.fill_(shift - 10.0)

    def forward(self, x):
        return self.after(self.last(self.features(x).mean((2, 3))))


def score():
    return Net(after=lambda score: score.squeeze(-1))


def sigmoid():
    return Net(after=torch.sigmoid)


def shifted():
    return Net(3.0)
"""
RUN = "--data npz:bright.npz --eps 2/255,30/255 --attack pgd:steps=4 --out r --display none"


@pytest.fixture
def bright(place: Workplace) -> Workplace:
    """Twenty grey images around a mean of one half: class 1 is the brighter half."""
    Path("one.py").write_text(MODELS)
    rng = np.random.default_rng(2)
    mean = np.where(np.arange(20) % 2, 0.56, 0.44) + rng.uniform(-0.03, 0.03, 20)
    images = mean[:, None, None, None] + rng.uniform(-0.05, 0.05, (20, 1, 8, 8))
    np.savez("bright.npz", x=images.astype(np.float32), y=np.arange(20) % 2)
    return place


def test_a_run_is_audited_and_says_what_the_scores_mean(bright: Workplace) -> None:
    said = bright.assay(f"run --model one.py:score {RUN} --audit quick")
    assert said.code == 0, said.err
    told = json.loads(bright.assay("show r --json").out)["results"]
    assert [one["robust_accuracy"] for one in told] == [1.0, 0.0]
    assert all(one["clean_accuracy"] == 1.0 for one in told)
    records = assay.Run.open(Path("r")).records()
    assert all("one score per image" in one for one in records["form"].to_pylist())
    assert set(records["prediction"].to_pylist()) == {0, 1}


def test_the_doctor_tells_scores_from_probabilities(bright: Workplace) -> None:
    said = bright.assay("doctor --model one.py:score --data npz:bright.npz")
    assert said.code == 0 and "finite, one score per image: class 1 above 0" in " ".join(said.out.split())
    said = bright.assay("doctor --model one.py:shifted?threshold=3 --data npz:bright.npz")
    assert said.code == 0 and "class 1 above 3" in " ".join(said.out.split()) and "100.0 %" in said.out
    said = bright.assay("doctor --model one.py:sigmoid --data npz:bright.npz")
    assert said.code != 0 and "as probabilities do (a sigmoid)" in " ".join(said.out.split())
    said = bright.assay(f"run --model one.py:sigmoid {RUN} --audit off --no-doctor")
    assert said.code == 2 and "as probabilities do (a sigmoid)" in " ".join(said.err.split())


def test_declared_probabilities_and_a_threshold_give_the_same_numbers(bright: Workplace) -> None:
    seen = []
    for model in (
        "one.py:score", "one.py:sigmoid --outputs probabilities", "one.py:shifted?threshold=3",
        "one.py:sigmoid?threshold=0.45 --outputs probabilities",
    ):  # fmt: skip
        out = f"r{len(seen)}"
        said = bright.assay(f"run --model {model} {RUN.replace('--out r', f'--out {out}')} --audit off")
        assert said.code == 0, said.err
        results = json.loads(bright.assay(f"show {out} --json").out)["results"]
        seen.append([(one["clean_accuracy"], one["robust_accuracy"]) for one in results])
    assert seen == 4 * [[(1.0, 1.0), (1.0, 0.0)]]


def test_patches_and_transfer_take_single_scores(bright: Workplace) -> None:
    size = "--size 3 --epochs 2 --held-out 4 --batch 8"
    said = bright.assay(f"patch train --model one.py:score --data npz:bright.npz {size} --target 1 --out p.safetensors")
    assert said.code == 0, said.err
    said = bright.assay("transfer --surrogate one.py:score --target one.py:shifted --data npz:bright.npz --eps 8/255")
    assert said.code == 0, said.err
