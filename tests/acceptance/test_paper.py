"""The paper's ImageNet tables by the command line: the real architectures, and the published attack to the bit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import models

import assay
from assay.core.threat import Threat
from assay.evaluation.run import Run
from assay.evaluation.study.spec import Study
from assay.models.loaders import torchvision as from_torchvision
from assay.paper.choices import Choices
from assay.paper.measured import panels, view
from assay.paper.studies import filled_in, raw_study
from assay.paper.tables import IMAGENET_NETWORKS
from tests.support.fake_imagenet import fake_imagenet
from tests.support.workplace import Workplace

EPS = [i / 100 for i in range(1, 11)]


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path, capsys)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """torchvision's cache with random weights of the three networks, under the names of the published files."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    for name in IMAGENET_NETWORKS:
        weights = models.get_model_weights(name).IMAGENET1K_V1
        state = from_torchvision.untrained(name).state_dict()
        torch.save(state, folder / "checkpoints" / weights.url.rsplit("/", 1)[1])
    yield folder
    # 0.4 GB that pytest would keep for three sessions
    shutil.rmtree(folder)


@pytest.fixture
def cached(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    # the hash in a published file's name is that of the trained weights
    monkeypatch.setattr(from_torchvision, "check_hash", lambda path: None)
    return hub


def test_the_three_networks_without_an_attack(place: Workplace, cached: Path, imagenet: Path) -> None:
    command = f"paper run --table I --imagenet {imagenet} --limit 1 --out out --display none --no-doctor"
    said = place.assay(command)
    assert said.code == 0, said.err
    run = Run.open("out/table-i")
    assert [result.model for result in run.results()] == [f"torchvision:{n}@IMAGENET1K_V1" for n in IMAGENET_NETWORKS]
    assert {result.n for result in run.results()} == {1}
    assert "top-1 error 43.48 % (printed 28.06 %)" in said.out


def test_table_iv_from_the_real_network_to_the_table(place: Workplace, cached: Path, imagenet: Path) -> None:
    command = f"paper run --table iv --imagenet {imagenet} --limit 1 --out out --display none --no-doctor"
    said = place.assay(command)
    assert said.code == 0, said.err
    for words in ("Table IV  Error under FGSM, ResNet-101", "printed", "as published", "corrected", "difference"):
        assert words in said.out
    assert "out/table-iv-as-published/results  (10 rows; assay show out/table-iv-as-published)" in said.err
    shown = json.loads(place.assay("show out/table-iv-corrected --json").out)
    assert [one["eps"] for one in shown["results"]] == pytest.approx([eps * 0.226 for eps in EPS])
    assert {one["model"] for one in shown["results"]} == {"torchvision:resnet101@IMAGENET1K_V1"}
    shards = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.parquet")}
    again = place.assay(command)
    assert (again.code, again.out) == (0, said.out)
    assert "(nothing was left to do)" in again.err
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.parquet")} == shards


def test_the_users_own_file_of_weights(place: Workplace, cached: Path, imagenet: Path) -> None:
    file = next((cached / "checkpoints").glob("regnet_y_400mf*"))
    command = f"paper run --table VI --mode corrected --imagenet {imagenet} --limit 1 --out out --display none"
    said = place.assay(f"{command} --no-doctor --model-file regnet_y_400mf={file}")
    assert said.code == 0, said.err
    (model,) = {result.model for result in Run.open("out/table-vi-corrected").results()}
    assert model.startswith(f"file:{file}?arch=torchvision:regnet_y_400mf&mean=0.485,0.456,0.406")
    # the same pictures, normalisation and weights, whichever way they were named
    assert place.assay(command.replace("--out out", "--out other") + " --no-doctor").code == 0
    mine, theirs = (Run.open(f"{out}/table-vi-corrected").records(["prediction", "rank"]) for out in ("out", "other"))
    assert mine == theirs
    # a file of another network is refused in words
    wrong = place.assay(f"{command} --model-file regnet_y_400mf={next((cached / 'checkpoints').glob('alexnet*'))}")
    assert wrong.code == 2
    assert "do not fit the architecture" in wrong.err


def test_images_of_ones_own_in_table_iii(place: Workplace, cached: Path, imagenet: Path) -> None:
    Image.frombytes("RGB", (30, 20), bytes(range(200)) * 9).save("drawing.png")
    known = "n01443537/n01443537_0.png"
    command = f"paper run --table III --mode corrected --imagenet {imagenet} --out out --display none --no-doctor"
    said = place.assay(f"{command} --image {known} --image drawing.png=toaster")
    assert said.code == 0, said.err
    # the goldfish stands beside the printed one, the drawing in a row of its own
    found = view(Path("out"), "III")
    measured = {row.name: row for row in found.rows if row.measured}
    assert list(measured) == ["goldfish", "toaster"]
    assert measured["goldfish"].printed[0] == 0.2372
    assert measured["toaster"].printed == (None,) * 5
    run = Run.open("out/table-iii-corrected")
    pictures = {picture.label: picture for picture in panels(run)}
    assert sorted(pictures) == [1, 859]
    assert float(pictures[859].perturbation.float().abs().max()) * 255 == pytest.approx(1.1526, abs=0.01)
    shares = pictures[859].logits.softmax(0).topk(5).values.tolist()
    assert measured["toaster"].measured["corrected"] == pytest.approx(shares)
    assert {row["sample_id"] for row in run.records().to_pylist()} == {p.sample_id for p in pictures.values()}


@pytest.fixture(scope="module")
def lite() -> assay.Classifier:
    return assay.load_model("efficientnet-lite0")


@dataclasses.dataclass(frozen=True)
class Published:
    """FGSM as the public notebook has it: x + eps sign(grad), in normalised units, no clamp."""

    x: Tensor
    logits: Tensor


def published(net: torch.nn.Module, x: Tensor, y: Tensor, eps: float, std: Tensor | float = 1.0) -> Published:
    """Return FGSM of a network that takes what `x` is in; `std` is the size of a normalised unit in that space."""
    z = x.clone().requires_grad_()
    loss = -torch.log_softmax(net(z), 1)[torch.arange(len(y)), y].sum()
    (grad,) = torch.autograd.grad(loss, z)
    changed = x + eps * std * grad.sign()
    with torch.no_grad():
        return Published(changed, net(changed))


def study(mode: str) -> Study:
    raw = filled_in(raw_study(f"table-iv-{mode}"), Choices(Path("out"), stand_in=True, limit=2), list)
    return Study.of(raw)


def test_as_published_is_the_published_attack_bit_for_bit(place: Workplace, lite: assay.Classifier) -> None:
    data = assay.load_data("samples", model=lite, limit=2)
    x, y = torch.stack([one.image for one in data.load(range(2))]), torch.tensor(data.labels)  # type: ignore[union-attr]  # it is there, as the test made it
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (lite.mean, lite.std))
    inner: Any = lite.module.module
    threats = [assay.Linf(f"normalized {eps:.2f}", box=False) for eps in EPS]
    ours = assay.sweep(assay.FGSM(), lite, x, y, threats=threats)
    for eps, one in zip(EPS, ours, strict=True):
        # in pixels, where a normalised unit is one standard deviation: the same images bit for bit; the answers differ
        # by the rounding of the layout that convolutions are computed in
        pixels = published(lite.module, x, y, eps, std)
        assert torch.equal(one.x_adv, pixels.x)
        torch.testing.assert_close(one.logits, pixels.logits, rtol=1e-4, atol=1e-3)
        assert torch.equal(ranked(one.logits), ranked(pixels.logits))
        # in the notebook's own space float32 rounds elsewhere: the same images to 1e-6, the same answers
        normalised = published(inner, (x - mean) / std, y, eps)
        torch.testing.assert_close((one.x_adv - mean) / std, normalised.x, rtol=0, atol=1e-6)
        assert torch.equal(ranked(one.logits), ranked(normalised.logits))

    said = place.assay(
        "paper run --stand-in --table IV --mode as_published --limit 2 --out out --display none --no-doctor"
    )
    assert said.code == 0, said.err
    records = Run.open("out/table-iv-as-published-stand-in").records(["eps", "prediction", "rank"])
    for eps, one in zip(EPS, ours, strict=True):
        mine = records.filter(pc.equal(records["eps"], eps))
        assert mine["prediction"].to_pylist() == one.logits.argmax(1).tolist()
        place_of_truth = 1 + (one.logits > one.logits.gather(1, y[:, None])).sum(1)
        assert mine["rank"].to_pylist() == place_of_truth.tolist()


def ranked(logits: Tensor) -> Tensor:
    return logits.topk(5, 1).indices


def test_each_difference_of_corrected_shows_in_the_images(lite: assay.Classifier) -> None:
    x = torch.stack([one.image for one in assay.load_data("samples", model=lite, limit=2).load(range(2))])  # type: ignore[union-attr]
    y = torch.tensor([243, 559])
    # torchvision's standard deviations differ by channel; put around the same network they show what a unit is
    std = (0.229, 0.224, 0.225)
    raw = {mode: filled_in(raw_study(f"table-iv-{mode}"), Choices(Path("o"), Path("d")), list) for mode in MODES}
    threats: dict[str, Threat] = {}
    for mode, one in raw.items():
        written, box = one["threats"][0]["eps"][-1], one["threats"][0].get("box", True)
        threats[mode] = assay.Linf(written, box=box)
    model = dataclasses.replace(lite, std=std)
    found = {mode: assay.attack(assay.FGSM(), model, x, y, threat=threat) for mode, threat in threats.items()}
    change = {mode: one.x_adv - x for mode, one in found.items()}
    # the unit: by channel as published, the same for all as corrected
    by_channel = {mode: one.abs().amax((0, 2, 3)) * 255 for mode, one in change.items()}
    assert by_channel["as-published"].tolist() == pytest.approx([5.8395, 5.712, 5.7375], abs=1e-3)
    assert by_channel["corrected"].tolist() == pytest.approx([5.763] * 3, abs=1e-3)
    # the box: left as published, kept as corrected
    outside = {mode: bool(((one.x_adv < 0) | (one.x_adv > 1)).any()) for mode, one in found.items()}
    assert outside == {"as-published": True, "corrected": False}
    # beside the box the two go the same way
    assert torch.equal(
        change["as-published"].sign()[change["corrected"] != 0], change["corrected"].sign()[change["corrected"] != 0]
    )


MODES = ("as-published", "corrected")
