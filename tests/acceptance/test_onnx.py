"""An ONNX file through the command line: doctor, plan, run in one process and in two, transfer, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.cli import main
from assay.evaluation.run import Run
from tests.support.onnx_files import Build

BUILD = Build(side=16, classes=2, seed=6, tail=("Softmax",), layout="nhwc")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, and pictures that are labelled as the file answers."""
    monkeypatch.chdir(tmp_path)
    BUILD.save(tmp_path / "net.onnx")
    import torch
    from torchvision.transforms.v2.functional import to_pil_image

    draws = torch.Generator().manual_seed(5)
    x = torch.rand((400, 3, 16, 16), generator=draws) * torch.rand((400, 3, 1, 1), generator=draws)
    x = (255 * x).round().to(torch.uint8)
    margins = BUILD.network()(x / 255).diff(dim=1)[:, 0]
    for label, own in enumerate((margins < 0, margins > 0)):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True)
        # those nearest to the other class: some of them will be broken
        nearest = [k for k in margins.abs().argsort().tolist() if own[k]][:12]
        for k in nearest:
            picture: Image.Image = to_pil_image(x[k])
            picture.save(folder / f"{k:03}.png")
    return tmp_path


def code(arguments: list[str]) -> object:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code or 0


def records(folder: Path) -> list[dict[str, Any]]:
    rows = Run.open(folder).records()
    found: list[dict[str, Any]] = rows if isinstance(rows, list) else rows.to_pylist()
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_every_command_takes_the_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    which = ["--model", "onnx:net.onnx", "--data", "folder:pictures"]
    assert code(["doctor", *which]) == 0
    told = capsys.readouterr().out
    assert "onnx2pytorch" in told
    assert "softmax" in told
    asked = [
        *which,
        "--attack",
        "pgd:steps=4",
        "--attack",
        "square:queries=20",
        "--eps",
        "2/255,8/255",
        "--audit",
        "off",
    ]
    assert code(["plan", *asked]) == 0
    assert code(["run", *asked, "--out", "one"]) == 0
    assert code(["run", *asked, "--out", "two", "--workers", "2"]) == 0
    assert records(here / "one") == records(here / "two")
    assert {row["status"] for row in records(here / "one")} >= {"broken", "survived"}
    manifest = json.loads((here / "one" / "manifest.json").read_text())
    (facts,) = manifest["models"].values()
    assert any("a conversion by onnx2pytorch" in note for note in facts["notes"])
    made = ["--surrogate", "onnx:net.onnx", "--target", "onnx:net.onnx", "--data", "folder:pictures", "--eps", "8/255"]
    assert code(["transfer", *made]) == 0


def test_the_same_file_elsewhere_goes_on_and_another_does_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--model", "onnx:net.onnx", "--data", "folder:pictures", "--attack", "fgsm", "--eps", "4/255"]
    assert code(["run", *asked, "--audit", "off", "--out", "run"]) == 0
    before = json.loads((here / "run" / "manifest.json").read_text())["cells"]
    Build(side=16, classes=2, seed=7, tail=("Softmax",), layout="nhwc").save(here / "net.onnx")
    code(["run", *asked, "--audit", "off", "--out", "other"])  # its labels are another network's
    assert json.loads((here / "other" / "manifest.json").read_text())["cells"].keys() != before.keys()


@pytest.mark.parametrize(
    "model, said",
    [
        ("onnx:nets.onnx", "Did you mean 'net.onnx'"),
        ("onnx:net.onnx?size=17", "takes images of 16 x 16"),
        ("onnx:pictures", "is a folder"),
    ],
)
def test_bad_input_is_one_sentence(here: Path, model: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(["run", "--model", model, "--data", "folder:pictures", "--attack", "fgsm", "--eps", "4/255"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "Traceback" not in told


def test_a_quantised_file_is_offered_what_fits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(here / "net.onnx"), str(here / "small.onnx"))
    which = ["--model", "onnx:small.onnx", "--data", "folder:pictures", "--eps", "4/255", "--audit", "off"]
    assert code(["run", *which, "--attack", "pgd", "--out", "no"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "gives scores alone" in told
    assert code(["run", *which, "--attack", "square:queries=10", "--out", "scores"]) in (0, 1)
