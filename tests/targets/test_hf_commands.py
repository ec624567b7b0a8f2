"""A Hugging Face model in every command, and one network in five forms: the same answers and the same records."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import assay
from assay.data import load_data
from assay.models import Classifier, load_model
from tests.support.hf_folders import lite0, make
from tests.support.workplace import Workplace, make_workplace

pytestmark = pytest.mark.targets
pytest.importorskip("transformers")

FACTORY = """
import torch
from torch import nn
from transformers import ViTForImageClassification


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = ViTForImageClassification.from_pretrained("vit")

    def forward(self, x):
        return self.inner(pixel_values=x).logits


def factory():
    return Net().eval()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    make("vit", tmp_path / "vit", id2label={at: str(at) for at in range(3)}, label2id={str(at): at for at in range(3)})
    (tmp_path / "own.py").write_text(FACTORY)
    return Workplace(tmp_path, capsys)


ABOUT = "--model hf:vit --data folder:pictures --labels predicted"
ATTACK = "--attack fgsm --attack pgd:steps=4 --eps 4/255,16/255 --display none"


def told(place: Workplace, run: str) -> list[Any]:
    rows = json.loads(place.assay(f"show {run} --json").out)["results"]
    return [(row["attack"], row["eps"], row["robust_accuracy"], row["forwards"], row["queries"]) for row in rows]


def test_commands(place: Workplace) -> None:
    ran = place.assay(f"run {ABOUT} {ATTACK} --audit off --out runs/hf")
    assert ran.code == 0, ran.err
    # the same network by code of the user's own, with what the processor does said as options
    own = "own.py:factory?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size=32&resize=32x32"
    plain = f"run --model {own} --data folder:pictures --labels predicted {ATTACK} --audit off --out runs/own"
    assert place.assay(plain).code == 0
    assert told(place, "runs/hf") == told(place, "runs/own") and told(place, "runs/hf")
    shared = place.assay(f"run {ABOUT} {ATTACK} --audit off --workers 2 --out runs/two")
    assert shared.code == 0, shared.err
    assert told(place, "runs/two") == told(place, "runs/hf")
    assert place.assay("audit runs/hf").code in (0, 3)
    doctor = place.assay(f"doctor {ABOUT}")
    assert doctor.code == 0 and "no zero gradient" in doctor.out
    planned = place.assay(f"plan {ABOUT} {ATTACK.partition(' --display')[0]}")
    assert planned.code == 0, planned.err
    moved = place.assay("transfer --surrogate hf:vit --target hf:vit --data folder:pictures --attack fgsm --eps 16/255")
    assert moved.code == 0, moved.err
    wrong = place.assay(f"run --model hf:vitt --data folder:pictures {ATTACK} --out runs/wrong")
    assert wrong.code == 2 and "Did you mean 'vit'?" in wrong.err


def test_a_run_records_the_commit(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = place.folder / "cache" / "models--owner--name" / "snapshots" / commit
    shutil.copytree(place.folder / "vit", snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place.folder / "cache"))
    about = ABOUT.replace("hf:vit", f"hf:owner/name@{commit}")
    ran = place.assay(f"run {about} {ATTACK} --audit off --out runs/id")
    assert ran.code == 0, ran.err
    manifest = json.loads((place.folder / "runs/id/manifest.json").read_text())
    (facts,) = manifest["models"].values()
    assert facts["notes"] == [f"owner/name is at commit {commit}."]


def test_patches_and_studies(place: Workplace) -> None:
    where = "--model hf:vit --data folder:pictures"
    trained = place.assay(f"patch train {where} --target 1 --size 8 --epochs 1 --display none --out p.safetensors")
    assert trained.code == 0, trained.err
    judged = place.assay(f"patch evaluate p.safetensors {where}")
    assert judged.code == 0, judged.err
    study = {
        "study": "s",
        "models": ["hf:vit"],
        "data": {"source": "folder:pictures", "labels": "predicted"},
        "attacks": ["fgsm"],
    }
    study |= {"threats": [{"norm": "linf", "eps": ["8/255"]}]}
    (place.folder / "s.yaml").write_text(json.dumps(study))
    ran = place.assay("run s.yaml --display none --audit off --out runs/s")
    assert ran.code == 0, ran.err
    assert told(place, "runs/s")


def test_a_trained_network_with_attention(tmp_path: Path) -> None:
    from scripts.hf_vit import train

    # a quarter of the script's own steps
    assert train(tmp_path / "vit", steps=600, size=3000) > 0.75
    assert (tmp_path / "vit" / "model.safetensors").stat().st_size < 300_000
    model = load_model(f"hf:{tmp_path / 'vit'}")
    assert model.classes == tuple("0123456789")
    data = load_data("mnist/test", model=model, limit=60)
    x, y = torch.stack([data.read(at) for at in range(60)]), torch.as_tensor(data.labels)
    found = [
        assay.attack(assay.PGD(steps=10), model, x, y, assay.Linf(eps)).robust_accuracy for eps in (0.0, 0.05, 0.3)
    ]
    assert found[0] > 0.75 and found[0] > found[1] > found[2] and found[2] < 0.1


# ---- one network in five forms


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("forms")
    lite0(folder / "hf")
    network = load_model("efficientnet-lite0").module.eval()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(network, (images,), dynamic_shapes={"x": {0: torch.export.Dim("n", max=64)}})
    torch.export.save(program, folder / "n.pt2")
    with warnings.catch_warnings(action="ignore"):  # torch calls TorchScript old
        torch.jit.save(torch.jit.trace(network, images), str(folder / "n.pt"))
        torch.onnx.export(
            network, (images,), folder / "n.onnx", dynamo=True, dynamic_shapes={"x": {0: "n"}}, verbose=False
        )
    size = "size=224&interpolation=bicubic"
    return {
        "module": "efficientnet-lite0",
        "hf": f"hf:{folder / 'hf'}",
        "pt2": f"pt2:{folder / 'n.pt2'}?{size}",
        "torchscript": f"torchscript:{folder / 'n.pt'}?{size}",
        "onnx": f"onnx:{folder / 'n.onnx'}?{size}",
    }


def test_five_forms_answer_alike(forms: dict[str, str]) -> None:
    models: dict[str, Classifier] = {name: load_model(one, allow_pickle=True) for name, one in forms.items()}
    data = {name: load_data("samples", model=models[name]) for name in ("module", "hf")}
    x = torch.stack([data["module"].read(at) for at in range(8)])
    assert torch.equal(x, torch.stack([data["hf"].read(at) for at in range(8)]))
    want = models["module"].oracle().answers(x)
    for name, model in models.items():
        # another runtime rounds differently: 1e-5 of the range of its logits
        close = 1e-5 * (float(want.abs().max()) if name == "onnx" else 1)
        torch.testing.assert_close(model.oracle().answers(x), want, rtol=0, atol=close, msg=name)
    assert len({model.digest for model in models.values()}) == len(models)


def test_five_forms_have_the_same_records(forms: dict[str, str], tmp_path: Path) -> None:
    threat = {"norm": "linf", "eps": ["1/255", "4/255"]}
    data, out = load_data("samples", model=load_model("efficientnet-lite0"), limit=8), tmp_path / "run"
    pairs = torch.stack([data.read(at) for at in range(8)]), torch.as_tensor(data.labels)
    models = [load_model(one, allow_pickle=True) for one in forms.values()]
    found = assay.evaluate(models, pairs, "fgsm", threat, out, audit="off", doctor=False, display="none")
    assert found is not None
    tables = [pq.read_table(one).to_pylist() for one in sorted((tmp_path / "run").rglob("*.parquet"))]
    rows = [row for table in tables for row in table]
    kept: dict[str, list[Any]] = {}
    for row in rows:
        kept.setdefault(row["model"], []).append((row["sample_id"], row["eps"], row["status"], row["size_linf"]))
    told = {name: sorted(value, key=str) for name, value in kept.items()}
    first = next(iter(told.values()))
    assert len(told) == len(forms) and len(first) == 16
    for name, value in told.items():
        assert [one[:3] for one in value] == [one[:3] for one in first], name
        for one, other in zip(value, first, strict=True):
            assert one[3] == pytest.approx(other[3], abs=1e-6), name
