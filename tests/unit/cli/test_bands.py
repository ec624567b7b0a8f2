"""Images of eight bands, from the look before a run to the page, by commands and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import assay
from assay.evaluation.run import Run
from tests.support.workplace import Workplace

NET = """
import torch
from torch import nn


def factory():
    net = nn.Sequential(nn.Conv2d(8, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    at = torch.arange(8) / 7
    spectra = torch.stack([torch.sin(6 * at + kind) for kind in range(3)])
    with torch.no_grad():
        net[0].weight.copy_(8 * spectra[:, :, None, None])
        net[0].bias.copy_(-4 * spectra.sum(1))
    return net
"""


def fields() -> tuple[Tensor, Tensor]:
    """Return 9 fields of 3 materials with a spectrum of 8 bands each, on grounds of their own, and their kinds."""
    draws = torch.Generator().manual_seed(0)
    at, kinds = torch.arange(8) / 7, torch.arange(9) % 3
    spectra = torch.stack([0.5 + 0.1 * torch.sin(6 * at + kind) for kind in range(3)])
    images = spectra[kinds][:, :, None, None] + 0.2 * (torch.rand(9, 8, 6, 7, generator=draws) - 0.5)
    return images.clamp(0, 1), kinds


@pytest.fixture
def banded(place: Workplace) -> Workplace:
    """The workplace with the fields as arrays, as files of eight pages, and a network for them."""
    (place.folder / "bands.py").write_text(NET)
    images, kinds = fields()
    np.savez(place.folder / "fields.npz", images=images.numpy(), labels=kinds.numpy())
    for at, (image, kind) in enumerate(zip(images, kinds.tolist(), strict=True)):
        path = place.folder / "tiffs" / "abc"[kind] / f"{at}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pages = [Image.fromarray((band * 255).round().byte().numpy()) for band in image]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    return place


def test_commands_from_the_look_to_the_page(banded: Workplace) -> None:
    looked = banded.assay("doctor --model bands.py:factory?channels=8 --data folder:tiffs")
    assert looked.code == 0 and "[8, 6, 7]" in looked.out
    line = "run --model bands.py:factory?channels=8 --data folder:tiffs --eps 2/255,32/255 --audit off --display none"
    assert banded.assay(f"{line} --attack fgsm --attack square:queries=20 --out runs/b").code == 0
    run = Run.open(Path("runs/b"))
    status = {(one["eps_written"], one["status"]) for one in run.records(["eps_written", "status"]).to_pylist()}
    assert ("2/255", "survived") in status and ("32/255", "broken") in status
    chosen = banded.assay("report runs/b --bands 5,3,1 --out chosen.html")
    assert chosen.code == 0 and "bands 5, 3, 1 of 8" in Path("chosen.html").read_text()
    picture = next(Path("runs/b/pictures").glob("*-original.png"))
    image = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1) / 255
    originals = fields()[0][:, [5, 3, 1]]
    assert float((originals - image).abs().amax((1, 2, 3)).min()) <= 0.51 / 255
    for bands, says in (
        ("5,3,8", "from 0 to 7"),
        ("5,3", "expected one, or three"),
        ("x", "numbers of channels"),
    ):
        refused = banded.assay(f"report runs/b --bands {bands} --out no.html")
        assert refused.code == 2 and says in refused.err
    assert banded.assay("export images runs/b --out images --as npy").code == 0


def test_one_band_may_change_and_colours_may_not(banded: Workplace) -> None:
    line = "run --model bands.py:factory --data npz:fields.npz --attack fgsm --eps 32/255 --audit off --display none"
    assert banded.assay(f"{line} --channels 6 --out runs/one").code == 0
    told = json.loads(banded.assay("show runs/one --json").out)
    assert told["results"][0]["threat"] == "linf channels=6"
    assert max(one["size_l0"] for one in Run.open(Path("runs/one")).records(["size_l0"]).to_pylist()) <= 42
    refused = banded.assay(f"{line} --norm ycbcr --out runs/colours")
    assert refused.code == 2 and "8 channels, expected 3" in refused.err
    assert "Traceback" not in refused.err


def test_python_from_arrays_to_the_page(tmp_path: Path) -> None:
    names: dict[str, nn.Module] = {}
    exec(NET, names)
    images, kinds = fields()
    data, threat = (images, kinds), assay.Linf("32/255")
    run = assay.evaluate(names["factory"](), data, ["fgsm", "apgd"], threat, out=tmp_path / "run", audit="off")
    assert run.results()[0].clean_accuracy == 1
    assert run.results()[0].robust_accuracy < 0.5
    page = run.page(tmp_path / "page.html", bands=[7, 4, 2])
    assert "bands 7, 4, 2 of 8 as red, green and blue" in page.read_text()
    each = assay.Linf([*["1/255"] * 7, "40/255"])
    found = assay.attack(assay.PGD(steps=5), names["factory"](), images, kinds, each)
    moved = (found.x_adv - images).abs().amax((0, 2, 3))
    assert bool((moved[:7] <= 1.01 / 255).all()) and float(moved[7]) > 20 / 255
