"""Dropout in evaluation: the right share, one answer per image, and two draws for the two kinds of pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models import load_model
from assay.models.dropout import DropoutOn


def test_the_shares_and_the_scale() -> None:
    """Half of 4,000 values of each image are dropped, the others doubled; channels go whole."""
    images = torch.rand(3, 4000)
    out = DropoutOn(nn.Sequential(nn.Dropout(0.5)))(images)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * images[kept])
    assert kept.float().mean(1).tolist() == pytest.approx([0.5] * 3, abs=0.03)
    maps = DropoutOn(nn.Sequential(nn.Dropout2d(0.25)))(torch.ones(2, 400, 5, 5))
    share = maps.flatten(2)
    assert torch.equal(share.amax(2), share.amin(2))
    assert (share[..., 0] == 0).float().mean(1).tolist() == pytest.approx([0.25] * 2, abs=0.07)
    assert float(share.max()) == pytest.approx(1 / 0.75)
    assert not DropoutOn(nn.Sequential(nn.Dropout(1.0)))(images).any()


def test_an_answer_depends_on_its_image_alone() -> None:
    model = load_model("zoo:mnist-cnn?dropout=on").module
    x = torch.rand(6, 1, 28, 28)
    with torch.no_grad():
        whole = model(x)
        parts = torch.cat([model(x[4:]), model(x[:4])])
        torch.testing.assert_close(whole[[4, 5, 0, 1, 2, 3]], parts)
        model.train()
        torch.testing.assert_close(model(x), whole)
        nudged = x.clone()
        nudged[0, 0, 3, 3] += 1e-3
        assert (model(nudged)[0] - whole[0]).abs().max() > 0.1
        torch.testing.assert_close(model(nudged)[1:], whole[1:])
    assert (model(x) - whole).abs().max() > 0.1


def test_layers_draw_apart_and_seeds_differ() -> None:
    x = torch.rand(1, 1000)
    both = DropoutOn(nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)))(x)
    assert (both != 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    one, other = (DropoutOn(nn.Sequential(nn.Dropout(0.5)), seed)(x) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_the_original_keeps_its_dropout() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    DropoutOn(plain)
    assert isinstance(plain[1], nn.Dropout)
    x = torch.rand(2, 4)
    assert torch.equal(plain(x), plain[0](x))


def test_it_is_another_model_by_name_and_digest() -> None:
    plain, noisy = load_model("zoo:mnist-cnn"), load_model("zoo:mnist-cnn?dropout=on")
    assert plain.digest != noisy.digest
    assert noisy.published_accuracy is None
    with pytest.raises(BadInput, match="dropout is 'off'; expected 'on'"):
        load_model("zoo:mnist-cnn?dropout=off")
