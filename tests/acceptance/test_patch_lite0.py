"""A patch on real pictures: the toaster of docs/patches.md, and what it must beat."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import assay
from assay.patches import Patch, Recipe, measure, train_patch
from assay.patches.evaluate import Where
from assay.patches.pictures import mask_of


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_toaster_on_pictures_it_has_not_seen(tmp_path: Path) -> None:
    model = assay.load_model("efficientnet-lite0")
    training, held_out = (assay.load_data("samples", model=model, part=f"{part} 5") for part in ("rest", "held-out"))
    target = (model.classes or ()).index("toaster")
    recipe = Recipe(mask_of("square", 64), target, epochs=400, batch=15, optimizer="adam")
    patch = train_patch([model], training, recipe, tmp_path).patch
    noise = patch.with_pixels(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    grey = patch.with_pixels(torch.full((3, 64, 64), 0.5))
    found, *others = (measure(one, model, held_out, Where(50)) for one in (patch, noise, grey))
    assert found.success >= 0.6
    assert all(found.interval[0] > other.interval[1] for other in others)
    patch.save(tmp_path / "toaster.safetensors")
    again = measure(Patch.load(tmp_path / "toaster.safetensors"), model, held_out, Where(50))
    assert torch.equal(again.hits, found.hits)
    # as an 8-bit PNG at most one picture ends elsewhere
    eight = measure(patch.in_eight_bits(), model, held_out, Where(50))
    assert int((eight.hits.double().mean(1) - found.hits.double().mean(1)).abs().gt(0.5).sum()) <= 1
