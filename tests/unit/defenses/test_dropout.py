"""Dropout in evaluation: the right share, one answer per image, and two draws for the two kinds of pass."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.core.draws import Draws
from assay.core.errors import BadInput, ModelError
from assay.defenses.dropout import DropoutOn, _fingerprint
from assay.models import load_model


def test_the_shares_and_the_scale() -> None:
    """Half of 4,000 values of each image are dropped, the others doubled; channels go whole."""
    images = torch.rand(3, 4000, generator=torch.Generator().manual_seed(0))
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


class Shared(nn.Module):
    """One layer at two places, once under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Dropout(0.5)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.drop(x))


class Functional(nn.Module):
    """No layer at all."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(x, 0.5, self.training, self.inplace)
        return F.dropout(h, training=self.training)


@pytest.mark.parametrize("module", [Shared(), Twice(), Functional(), Functional(inplace=True)])
def test_every_call_of_dropout_drops(module: nn.Module) -> None:
    """Two independent masks of a half leave a quarter, four times as large; the layers' way is the functions' way."""
    on = DropoutOn(module.eval())
    out = on(torch.ones(4, 1000))
    assert (out != 0).float().mean(1).tolist() == pytest.approx([0.25] * 4, abs=0.06)
    assert set(out.unique().tolist()) == {0.0, 4.0}
    layers = DropoutOn(nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)))
    assert torch.equal(out, layers(torch.ones(4, 1000)))


def test_channels_by_function() -> None:
    class Maps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout2d(x, 0.25, training=self.training)

    x = torch.rand(2, 50, 3, 3)
    assert torch.equal(DropoutOn(Maps().eval())(x), DropoutOn(nn.Dropout2d(0.25))(x))


@pytest.mark.parametrize(
    ("module", "x", "says"),
    [
        (nn.AlphaDropout(0.1), torch.rand(2, 4), "a call of alpha_dropout"),
        (nn.Sequential(nn.LSTM(4, 4, 2, dropout=0.1)), None, r"the dropout inside 0 \(LSTM\)"),
        (nn.TransformerEncoderLayer(4, 1), None, r"the dropout inside self_attn \(MultiheadAttention\)"),
        (nn.Sequential(nn.Flatten(0, 1), nn.Dropout(0.1)), torch.rand(2, 3, 4), r"a dropout of \[6, 4\] for 2 images"),
        (nn.Sequential(nn.Flatten(0), nn.Dropout(0.1)), torch.rand(2, 3), r"a dropout of \[6\] for 2 images"),
    ],
)
def test_dropout_without_a_mask_of_the_image_is_refused(module: nn.Module, x: Tensor | None, says: str) -> None:
    with pytest.raises(BadInput, match=rf"Dropout cannot be left on here: {says}.*Measure the network in eval mode"):
        DropoutOn(module.eval())(x)


def test_attention_that_drops_is_refused() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)

    with pytest.raises(BadInput, match="a call of scaled_dot_product_attention"):
        DropoutOn(Attention())(torch.rand(2, 1, 4, 4))


def test_changes_that_cancel_in_a_sum_change_the_masks() -> None:
    """The masks' seed mixes every pixel on its own: swaps and shifts of two pixels are other images."""
    x = torch.rand(1, 1, 28, 28)
    swapped, shifted = x.clone(), x.clone()
    swapped[0, 0, 0, :2] = x[0, 0, 0, :2].flip(0)
    shifted[0, 0, 0, 0] += 0.25
    shifted[0, 0, 0, 1] -= 0.25
    on = DropoutOn(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)))
    masks = [on(image) != 0 for image in (x, swapped, shifted)]
    for one, other in itertools.combinations(masks, 2):
        assert 0.3 < (one == other).float().mean() < 0.7
    # minus zero is the same pixel
    zeros = torch.zeros(1, 100)
    assert torch.equal(_fingerprint(zeros), _fingerprint(-zeros))


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


def test_a_network_with_dropout_on_is_its_formula_bit_for_bit() -> None:
    model = load_model("zoo:mnist-cnn?dropout=on")
    plain = load_model("zoo:mnist-cnn").module
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # written anew from the formulas: h * kept / (1 - p), masks from the seed and the image, one per call
        draws = Draws(_fingerprint(x)).fold(0).fold("without")
        h = plain[4](plain[3](plain[2](plain[1](plain[0](x)))))
        h = h * (draws.uniform("dropout 0", 64) >= 0.25)[:, :, None, None] / 0.75
        h = plain[8](plain[7](plain[6](h)))
        h = h * (draws.uniform("dropout 1", 128) >= 0.5) / 0.5
        assert torch.equal(model.module(x), plain[10](h))


@pytest.mark.parametrize("chain", ["dropout", "dropout-uncertainty:threshold=0.1,masks=2"])
def test_a_network_without_dropout_is_refused(chain: str) -> None:
    model = assay.defend(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), chain)
    with pytest.raises(ModelError, match="calls no dropout, so there is none to leave on"):
        model.module(torch.rand(2, 1, 4, 4))
