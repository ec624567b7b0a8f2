"""PatchCleanser's double masking: its masks, its decisions, and what attacks see of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.defenses.double_masking import DoubleMasking, first_masks, mask_row
from tests.support.patches_by_force import inference, square_masks


class Net(nn.Module):
    """A small network of random weights, that counts the images it is shown."""

    def __init__(self, side: int, seed: int, classes: int = 3) -> None:
        super().__init__()
        maker = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(side * side, 8, generator=maker))
        self.second = nn.Parameter(torch.randn(8, classes, generator=maker))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return (x.flatten(1) @ self.first).tanh() @ self.second


@pytest.mark.parametrize(
    ("length", "patch", "masks", "side", "starts"),
    [
        (28, 5, 6, 8, (0, 4, 8, 12, 16, 20)),
        (28, 3, 6, 7, (0, 5, 10, 15, 20, 21)),
        (28, 2, 6, 6, (0, 5, 10, 15, 20, 22)),
        (32, 5, 6, 9, (0, 5, 10, 15, 20, 23)),
        (224, 32, 6, 64, (0, 33, 66, 99, 132, 160)),
        (224, 32, 3, 96, (0, 65, 128)),
        (4, 4, 6, 4, (0,)),
    ],
)
def test_masks_are_the_published_ones(length: int, patch: int, masks: int, side: int, starts: tuple[int, ...]) -> None:
    assert mask_row(length, patch, masks) == (side, starts)
    assert first_masks((3, length, length), patch, masks) == len(starts) ** 2


def test_every_patch_lies_in_some_mask() -> None:
    for length, masks in itertools.product((1, 5, 12, 28, 31), (1, 2, 3, 6, 9)):
        for patch in range(1, length + 1):
            side, starts = mask_row(length, patch, masks)
            covered = {at for start in starts for at in range(start, start + side - patch + 1)}
            assert covered == set(range(length - patch + 1))
            assert max(starts) + side == length


def test_decisions_are_those_of_the_algorithm_as_it_is_written() -> None:
    maker = torch.Generator().manual_seed(0)
    masks = square_masks(7, 4, (0, 3))
    kinds = set()
    for seed in range(12):
        net, x = Net(7, seed), torch.rand(25, 1, 7, 7, generator=maker)
        module = DoubleMasking(net, patch=2, masks=2)
        with torch.no_grad():
            assert [module.hidden(x)[i].nonzero().amin(0).tolist() for i in range(4)] == [
                [0, 0],
                [0, 3],
                [3, 0],
                [3, 3],
            ]
            answer = module(x).argmax(1)
            first = module.one_mask_answers(x).argmax(2)
            assert answer.tolist() == [inference(net, one, masks) for one in x]
        majority = nn.functional.one_hot(first, 3).sum(1).argmax(1)
        unanimous = (first == first[:, :1]).all(1)
        kinds |= set(zip(unanimous.tolist(), (majority == answer).tolist(), strict=True))
    # agreed at once, a disagreeing mask that won, the majority
    assert kinds == {(True, True), (False, False), (False, True)}


def test_fill_and_images_that_are_no_squares() -> None:
    x = torch.rand(2, 3, 6, 9)
    # each value of what is shown is a logit
    module = DoubleMasking(nn.Flatten(), patch=3, masks=2, fill=0.25)
    assert (mask_row(6, 3, 2), mask_row(9, 3, 2)) == ((4, (0, 2)), (6, (0, 3)))
    hidden, shown = module.hidden(x), module.one_mask_answers(x).view(2, 4, 3, 6, 9)
    assert hidden[1, :4, 3:].all() and hidden.flatten(1).sum(1).tolist() == [24] * 4
    assert torch.equal(shown[:, 1], torch.where(hidden[1], 0.25, x))
    row = torch.tensor([1, 0])
    both = module.pair_answers(x, row, torch.tensor([0, 1]), torch.tensor([3, 1])).view(2, 3, 6, 9)
    assert torch.equal(both, torch.where((hidden[[0, 1]] | hidden[[3, 1]])[:, None], 0.25, x[row]))
    # values that a mask hides do not matter, whatever they are
    wild = torch.where(hidden[2], torch.nan, x)
    assert torch.equal(module.one_mask_answers(wild)[:, 2], module.one_mask_answers(x)[:, 2])


def test_passes_are_counted_as_they_are_spent() -> None:
    net, x = Net(9, 3), torch.rand(20, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    model = assay.defend(assay.load_model(net), "double-masking:patch=2,masks=3")
    assert model.passes.forwards == model.passes.backwards == 9
    goal, draws = assay.Untargeted(torch.zeros(20, dtype=torch.int64)), Draws(torch.arange(20))
    oracle = model.oracle(7)
    oracle.look(x, goal, margin, Access.SCORES, draws)
    net.seen = 0
    seen = oracle.look(x, goal, margin, Access.GRADIENT, draws)
    assert int(seen.cost.forwards.sum()) == net.seen > 20 * 9
    assert seen.cost.backwards.tolist() == [9] * 20 and seen.cost.queries.tolist() == [1] * 20
    first = DoubleMasking(net, patch=2, masks=3).one_mask_answers(x).argmax(2)
    agreed = (first == first[:, :1]).all(1)
    assert 0 < int(agreed.sum()) < 20
    assert torch.equal(seen.cost.forwards == 9, agreed)
    alone = oracle.look(x[3:4], assay.Untargeted(goal.y[3:4]), margin, Access.SCORES, draws.take(torch.tensor([3])))
    assert int(alone.cost.forwards) == int(seen.cost.forwards[3])


def test_the_slope_is_that_of_the_masked_images_that_are_not_lost_yet() -> None:
    class Two(nn.Module):
        # the class "bright" leads by ten times the mean of what is seen
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.zeros(len(x)), 10 * x.mean((1, 2, 3)) - 1], 1)

    x = torch.full((1, 1, 7, 7), 0.2).requires_grad_()
    module = DoubleMasking(Two(), patch=2, masks=2)
    logits = module(x)
    (grad,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], x)
    shown = (~module.hidden(x)).float().mean(0)
    torch.testing.assert_close(grad[0, 0], 10 / 49 * shown)
    # an image that is won by far has no slope left, one that is far from it has
    bright = torch.full((1, 1, 7, 7), 1.0).requires_grad_()
    logits = module(bright)
    (grad,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], bright)
    assert not bool(grad.any())
    logits = module(bright)
    (grad,) = torch.autograd.grad(logits[0, 0] - logits[0, 1], bright)
    torch.testing.assert_close(grad[0, 0], -10 / 49 * shown)


def test_the_decision_leads_even_against_the_mean() -> None:
    """Nine masks of a patch that hides from one of them alone: the mean says otherwise by far."""

    class Spot(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.ones(len(x)), 100 * x[:, 0, 3:5, 3:5].sum((1, 2))], 1)

    x = torch.zeros(1, 1, 9, 9)
    x[..., 3:5, 3:5] = 1
    model = assay.defend(Spot(), "double-masking:patch=2,masks=3")
    logits = model.module(x)
    assert model.module.one_mask_answers(x).mean(1).argmax(1).tolist() == [1]
    assert logits.argmax(1).tolist() == [0] and float(logits[0, 0] - logits[0, 1]) > 0


def test_a_patch_under_which_the_network_overflows_does_not_decide() -> None:
    class Overflowing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spot = x[:, 0, 3:5, 3:5].sum((1, 2))
            return torch.stack([torch.ones(len(x)), torch.where(spot > 3, torch.inf, 0) * spot], 1)

    x = torch.zeros(1, 1, 9, 9)
    x[..., 3:5, 3:5] = 1
    logits = DoubleMasking(Overflowing(), patch=2, masks=3)(x)
    assert bool(logits.isfinite().all()) and int(logits.argmax()) == 0
    # where it answers under no mask, there is no answer
    assert bool(DoubleMasking(Overflowing(), patch=2, masks=3, fill=1.0)(x).isnan().all())


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        ("median|double-masking", "must be the first of a chain"),
        ("resize-pad|double-masking:patch=2", "must be the first of a chain"),
        ("double-masking|gaussian-noise", "draws numbers"),
        ("double-masking|margin:threshold=-1", "may refuse an image"),
        ("double-masking:patch=11", "the patch is 11 pixels, and the images have 10 along a side"),
        ("double-masking:patch=0", "patch is 0"),
        ("double-masking:fill=2", "fill is 2"),
    ],
)
def test_uses_that_are_unsound_are_refused(chain: str, says: str) -> None:
    import dataclasses

    model = dataclasses.replace(assay.load_model(Net(10, 0)), input_shape=(1, 10, 10))
    with pytest.raises(BadInput, match=says):
        assay.defend(model, chain)
    assert assay.defend(model, "double-masking|bit-depth:bits=3").passes.forwards == 36


def test_images_smaller_than_the_patch_are_refused_when_they_come() -> None:
    model = assay.defend(Net(4, 0), "double-masking")
    with pytest.raises(BadInput, match="the patch is 5 pixels, and the images have 4 along a side"):
        TorchOracle(model.module).answers(torch.rand(1, 1, 4, 4))


def test_options_are_in_the_digest() -> None:
    net = Net(10, 0)
    options = ("", ":patch=4", ":masks=5", ":fill=0.5")
    assert len({assay.defend(net, f"double-masking{one}").digest for one in options}) == 4
