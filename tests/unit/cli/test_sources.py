"""Tables, arrays and data sets by code, on the command line and in studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.cli import main
from assay.evaluation.run import Run

CODE = """
import random
import torch
from torch import nn


def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


X, Y = torch.full((9, 3, 4, 4), 0.3), torch.arange(9) % 3
X[torch.arange(9), Y] += 0.4


class Jittered(torch.utils.data.Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, position):
        return X[position] + 0.1 * random.random(), int(Y[position])


def steady():
    return X, Y


jittered = Jittered()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(CODE)
    pixels = np.full((9, 4, 4, 3), 80, np.uint8)
    pixels[np.arange(9), :, :, np.arange(9) % 3] = 180
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{i}.png")
    (tmp_path / "t.tsv").write_text("file\tclass\n" + "".join(f"{i}.png\t{'abc'[i % 3]}\n" for i in range(9)))
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(9) % 3)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*words, "--display", "none"] if words[0] == "run" else list(words))
    return int(left.value.code or 0)


@pytest.mark.parametrize("source", ["table:t.tsv?label=class", "npz:a.npz", "own.py:steady"])
def test_own_data_by_flags(place: Path, source: str) -> None:
    flags = ["--model", "own.py:net", "--data", source, "--attack", "fgsm", "--eps", "1/255", "--out", "runs/x"]
    assert run("run", *flags, "--audit", "off") == 0
    (result,) = Run.open(place / "runs/x").results()
    assert (result.n, result.clean_accuracy, result.data) == (9, 1.0, source)


def test_own_data_in_a_study(place: Path) -> None:
    (place / "s.yaml").write_text(
        "study: s\nmodels: own.py:net\ndata: {source: 'table:t.tsv', sample: 6}\n"
        "threats: {norm: linf, eps: [1/255]}\nattacks: fgsm\naudit: off\n"
    )
    assert run("run", "s.yaml") == 0
    assert sorted(Run.open(place / "runs/s").records(["label"])["label"].to_pylist()) == [0, 0, 1, 1, 2, 2]


def test_random_data_are_refused_or_fixed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "own.py:net", "--data", "own.py:jittered", "--attack", "pgd", "--eps", "1/255", "--out", "r"]
    assert run("run", *flags) == 2
    assert "--allow-random-data" in capsys.readouterr().err
    assert run("doctor", *flags[:4]) == 2
    assert "another image each time it is read" in capsys.readouterr().out
    assert run("run", *flags, "--allow-random-data") == 0
    assert "Random transforms are fixed" in capsys.readouterr().err
    first = Run.open(place / "r").records(["image_digest"])
    assert run("run", *flags[:-1], "again", "--allow-random-data") == 0
    assert Run.open(place / "again").records(["image_digest"]) == first
    assert run("doctor", *flags[:4], "--allow-random-data") == 0
