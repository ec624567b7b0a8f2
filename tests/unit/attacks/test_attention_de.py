"""Attention and differential evolution: salient cells, squares painted there, and the best square by brute force."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

import assay
from assay.attacks import build
from assay.attacks.attention_de import AttentionDE, Saliency, _chosen
from assay.core.compose import Passes, most_passes
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.masks import Mask
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import L0
from tests.support.bench import Case, Linear, Remembering

MAKER = torch.Generator().manual_seed(0)
X = torch.rand(1, 3, 8, 8, generator=MAKER)
# heavy tails: one place is clearly the best
WEIGHT = torch.randn(192, 2, generator=MAKER) ** 3
SLOPE = (WEIGHT[:, 1] - WEIGHT[:, 0]).view(3, 8, 8)


def best_gains(side: int) -> Tensor:
    """Return what the best square at each cell gains, by trying the eight corners of the colours at all of them."""
    gains = torch.zeros(8 // side, 8 // side)
    for i, j in itertools.product(range(8 // side), repeat=2):
        rows, columns = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
        for colour in itertools.product((0.0, 1.0), repeat=3):
            change = torch.tensor(colour).view(3, 1, 1) - X[0, :, rows, columns]
            gains[i, j] = torch.maximum(gains[i, j], (SLOPE[:, rows, columns] * change).sum())
    return gains


@pytest.mark.parametrize(
    ("side", "share", "saliency"),
    [
        (1, 0.1, "gradient"),
        pytest.param(1, 1.0, "occlusion", marks=pytest.mark.slow),
        pytest.param(2, 0.5, "gradient", marks=pytest.mark.slow),
    ],
)
def test_the_best_square_is_found_from_ten_of_ten_seeds(side: int, share: float, saliency: str) -> None:
    """On a linear network, at the bias where no other place breaks it, and only colours near the best."""
    gains = best_gains(side)
    cells = AttentionDE(share=share, block=side)._salient(SLOPE.abs().sum(0)[None], _problem())
    assert int(cells.sum()) == round(share * gains.numel())
    inside = torch.where(cells[0], gains, 0)
    highest, second = inside.flatten().topk(2).values.tolist()
    lead = float((X[0] * SLOPE).sum())
    model = Linear(WEIGHT, torch.tensor([0.0, -lead - 0.5 * (highest + second)]))
    x = X.expand(10, -1, -1, -1).contiguous()
    attack = build("attention-de", population=100, generations=20, share=share, block=side, saliency=saliency)
    found = Case(model, x, Untargeted(torch.zeros(10, dtype=torch.int64)), L0(3 * side**2)).run(attack)
    assert bool(found.success.all())
    at = divmod(int(inside.argmax()), 8 // side)
    expected = torch.zeros(8 // side, 8 // side, dtype=torch.bool)
    expected[at] = True
    changed = (found.x != x).any(1)
    assert torch.equal(changed.any(0), expected.repeat_interleave(side, 0).repeat_interleave(side, 1))


def _problem(threat: assay.Threat | None = None, x: Tensor = X) -> Problem:
    model = Linear(WEIGHT, torch.zeros(2))
    return Problem(TorchOracle(model), x, Untargeted(torch.zeros(len(x), dtype=torch.int64)), threat or L0(3))


def test_shares_spread_evenly_choose_the_salient_cells_evenly() -> None:
    cells = torch.rand(2, 5, 7, generator=MAKER) < 0.3
    cells[:, 2] = False
    cells[1] = False
    cells[1, 4, 6] = True
    chosen = _chosen(torch.rand(2, 20_000, 2, generator=MAKER), cells)
    count = torch.zeros(2, 5, 7)
    for image in range(2):
        count[image].index_put_(tuple(chosen[image].T), torch.ones(20_000), accumulate=True)
    assert torch.equal(count > 0, cells)
    expected = 20_000 / cells.flatten(1).sum(1).view(2, 1, 1) * cells
    assert bool(((count - expected).abs() <= 5 * expected.sqrt()).all())
    assert torch.equal(_chosen(torch.full((2, 1, 2), 1.0), cells)[1, 0], torch.tensor([4, 6]))


class Corner(torch.nn.Module):
    """Sees the lower right corner alone."""

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, -6:, -6:].mean((1, 2, 3))
        return torch.stack([seen, torch.full_like(seen, 0.2)], 1)


@pytest.mark.parametrize("saliency", list(Saliency))
def test_squares_stay_where_the_network_looks_and_cost_what_they_say(saliency: Saliency) -> None:
    x = torch.rand(4, 3, 24, 24, generator=MAKER) * 0.1
    x[:, :, -6:, -6:] += 0.6
    attack = AttentionDE(8, 3, 0.08, 3, saliency, windows=4)
    oracle = Remembering(TorchOracle(Corner()))
    case = Case(Corner(), x, Untargeted(torch.zeros(4, dtype=torch.int64)), L0(60))
    found = case.run(attack, Keeps.LAST, oracle)
    looks = 1 if saliency is Saliency.GRADIENT else 17
    assert found.forwards.tolist() == [looks + 32] * 4
    assert found.backwards.tolist() == [int(saliency is Saliency.GRADIENT)] * 4
    assert most_passes(attack, "l0", 2) == Passes(looks + 32, int(saliency is Saliency.GRADIENT))
    for _, points, _ in oracle.looks[looks:]:
        changed = (points != x).any(1)
        # the corner, and what smoothing adds around it
        assert not bool(changed[:, :12].any()) and not bool(changed[:, :, :12].any())
        # 60 values pay for two squares of 27 and, in part, for a third
        assert bool(((points != x).flatten(1).sum(1) <= 60).all())
    assert attack.access is (Access.GRADIENT if saliency is Saliency.GRADIENT else Access.SCORES)


def test_a_mask_of_few_pixels_has_its_own_salient_cells() -> None:
    mask = torch.zeros(8, 8)
    mask[5:7, 5:7] = 1
    threat = dataclasses.replace(L0(6), mask=Mask.of(mask))
    found = search(AttentionDE(6, 4, 0.5, 2, windows=2), _problem(threat), Draws(torch.tensor([3])), keeps=Keeps.LAST)
    changed = (found.x != X).any(1)[0]
    assert bool(changed.any()) and not bool(changed[mask == 0].any())


def test_squares_grow_with_the_image() -> None:
    sides = [AttentionDE()._side(_problem(x=torch.zeros(1, 1, n, n + 3))) for n in (5, 28, 64, 224, 500)]
    assert sides == [1, 1, 2, 8, 8]


@pytest.mark.parametrize(
    "given",
    [{"share": 0.0}, {"share": 1.1}, {"block": 0}, {"windows": 0}, {"population": 3}, {"saliency": "edges"}],
    ids=str,
)
def test_slips_are_named(given: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(given))):
        build("attention-de", **given)
