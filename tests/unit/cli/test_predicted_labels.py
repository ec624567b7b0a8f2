"""Pictures without labels: the model's own answers are the labels, and everything says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.cli import main
from assay.core.errors import BadInput
from assay.evaluation.run import Run

SAID = "labels: predicted by the model"
CODE = """
from torch import nn


def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
FLAGS = ["--model", "own.py:net", "--attack", "fgsm", "--eps", "1/255,40/255"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "loose").mkdir()
    for i in range(7):
        pixels = np.full((4, 4, 3), 100, np.uint8)
        pixels[:, :, i % 3] += 30
        Image.fromarray(pixels).save(tmp_path / "loose" / f"{i}.png")
    (tmp_path / "t.csv").write_text("picture,taken\n" + "".join(f"{i}.png,monday\n" for i in range(7)))
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0)


@pytest.mark.parametrize("source", ["folder:loose", "table:t.csv?root=loose"])
def test_everything_says_where_labels_come_from(place: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*FLAGS, "--data", source, "--labels", "predicted", "--out", "r", "--display", "none"]
    assert run("run", *given) == 0
    said = capsys.readouterr()
    assert SAID in " ".join(said.out.split())
    assert "accuracy unknown" in " ".join(said.out.split())
    assert "100 %" not in said.out.replace("\u00a0", " ").split("eps")[0]
    found = Run.open(place / "r")
    rows = found.records(["data", "label", "sample_id"]).to_pylist()
    assert {row["data"] for row in rows} == {f"{source} ({SAID})"}
    assert all(row["label"] == int(row["sample_id"][0]) % 3 for row in rows)
    small, large = found.results()
    assert math.isnan(small.clean_accuracy)
    assert (small.robust_accuracy, large.robust_accuracy) == (1.0, 0.0)
    assert found.verdicts()
    assert run("show", "r", "--json") == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["clean_accuracy"] is None
    for form in ("md", "csv", "latex"):
        assert run("show", "r", "--format", form) == 0
        assert SAID in capsys.readouterr().out
    assert run("show", "r", "--over", "forwards", "--json") == 0
    assert run("report", "r") == 0
    page = next((place / "r").rglob("*.html")).read_text()
    assert SAID in page
    assert "NaN" not in page.split("<script")[0]


def test_the_doctor_does_not_praise_an_accuracy(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--model", "own.py:net", "--data", "folder:loose", "--labels", "predicted") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "whether it is right cannot be said" in said
    assert "100.0 %" not in said


def test_in_a_study_and_in_python(place: Path) -> None:
    (place / "s.yaml").write_text(
        "study: s\nmodels: own.py:net\ndata: {source: 'folder:loose', labels: predicted}\n"
        "threats: {norm: linf, eps: [1/255]}\nattacks: fgsm\naudit: off\n"
    )
    assert run("run", "s.yaml", "--display", "none") == 0
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    for given in (images, (images, torch.full((6,), 2))):
        done = assay.evaluate(net, given, "fgsm", assay.Linf("0"), labels="predicted", audit="off", doctor=False)
        assert done.records(["label"])["label"].to_pylist() == net(images).argmax(1).tolist()
        assert math.isnan(done.results()[0].clean_accuracy)


def test_slips_are_named(place: Path) -> None:
    with pytest.raises(BadInput, match="pass it"):
        assay.load_data("folder:loose", labels="predicted")
    model = assay.load_model("own.py:net")
    with pytest.raises(BadInput, match="Did you mean 'predicted'"):
        assay.load_data("folder:loose", model=model, labels="predict")
    with pytest.raises(BadInput, match="no class folders"):
        assay.load_data("folder:loose", model=model)
