"""Every attack of the table, in every norm it names, keeps every promise."""

from __future__ import annotations

import pytest
import torch

from assay.attacks import ATTACKS, build
from assay.core.errors import BadInput
from assay.core.oracle import TorchOracle
from assay.core.search import Keeps
from tests.support import checks
from tests.support.bench import (
    AIMLESS,
    FEWER,
    FIRST_NORM,
    GOALS,
    PAIRS,
    PROBING,
    RANDOM,
    Case,
    Remembering,
    case_of,
    make,
)

# Half of the gradients of DI are taken at images resized to three quarters of their sides.
DIVERSE = {("di-fgsm", "linf"): 0.6, ("di-fgsm", "l2"): 0.5, ("di-fgsm", "l1"): 0.5}

# What is estimated from few queries, or found by chance, is found a little late.
BLACK_BOX = {
    ("nes", "linf"): 0.8,
    ("nes", "l2"): 0.8,
    ("spsa", "linf"): 0.6,
    ("spsa", "l2"): 0.7,
    ("simba", "l2"): 0.9,
    ("one-pixel", "l0"): 0.3,
    ("attention-de", "l0"): 0.3,
    ("hop-skip-jump", "l2"): 0.85,
    ("hop-skip-jump", "linf"): 0.7,
    ("boundary", "l2"): 0.75,
}

# How much of the closed form's budget is enough for an attack that spends part of its own on chance. PGD in L2: from a
# start at right angles to the gradient, steps of 2.5 / steps budgets on the sphere turn to within 10 degrees of it.
# Square in L2 and L1: bumps that it moves about at random.
# Carlini-Wagner in L0 gives values up by what they gain now. EAD weighs L1 and L2 together: the smallest in neither.
# A shade of grey for each block gains the sum of the gradient over the block, a third of that of its values one by one.
SHARE = {
    ("block-grey", "linf"): 0.25,
    ("block-grey-search", "linf"): 0.2,
    ("r-fgsm", "linf"): 0.3,
    ("ffgsm", "linf"): 0.6,
    ("pgd", "l2"): 0.98,
    ("square", "l2"): 0.5,
    ("square", "l1"): 0.3,
    ("pdpgd", "l1"): 0.9,
    ("alma", "l1"): 0.9,
    ("fmn", "l1"): 0.9,
    ("carlini-wagner", "l0"): 0.7,
    ("ead", "l1"): 0.8,
    ("ead", "l2"): 0.7,
    **DIVERSE,
    **BLACK_BOX,
}

# In L1 a step changes one value of these small images, the same one for most seeds. Of 20 shades, or of 6 blocks, most
# seeds move the same ones to the edge of the budget; and the one pixel of a patch to a corner of the box.
RARELY = {
    ("vmi-fgsm", "l1"): 12,
    ("pgd", "ycbcr"): 12,
    ("apgd", "ycbcr"): 12,
    ("block-grey", "linf"): 12,
    ("block-grey-search", "linf"): 12,
    ("patch-search", "patch"): 12,
}

# JSMA moves values up only, in pairs, and few of them: the closed form moves half of them down
ONE_WAY = {"jsma"}

every_attack = pytest.mark.parametrize(("name", "norm"), PAIRS, ids=lambda v: v)

# what these ask has nothing to do with how a change is measured: the other norms are among the slow tests
OF_ANY_NORM = (
    checks.check_inputs_unchanged,
    checks.check_subsets_of_every_keeping,
    checks.check_deterministic,
    checks.check_counts,
    checks.check_micro_batch,
)
IN_DOUBLE = (checks.check_budget, checks.check_zero_budget)


def every_promise(asked, in_every_norm):
    """Parametrise a test by attacks, norms and the checks `asked`, some of which are asked `in_every_norm`."""
    return pytest.mark.parametrize(
        ("name", "norm", "check"),
        [
            (*pair, check)
            if pair in FIRST_NORM or check in in_every_norm
            else pytest.param(*pair, check, marks=pytest.mark.slow)
            for pair in PAIRS
            for check in asked
        ],
        ids=lambda v: v if isinstance(v, str) else v.__name__,
    )


def promise(check, name: str, case: Case) -> None:
    """Check a promise as an attack can keep it: a lens asks about points of its own."""
    if name in PROBING and check in (checks.check_finished_rows, checks.check_units, checks.check_grid):
        pytest.skip("the probes of a lens are drawn in pixels, and judge no one")
    if name in PROBING and check is checks.check_counts:
        case.model.forwards = 0
        found = case.run(make(name))
        assert int(found.forwards.sum()) == int(found.queries.sum()) == case.model.forwards
        assert not bool(found.backwards.any())
        return
    check(make(name), case)


@every_promise(checks.CHECKS, [check for check in checks.CHECKS if check not in OF_ANY_NORM])
def test_promise(name: str, norm: str, check) -> None:
    promise(check, name, case_of(name, norm))


@pytest.mark.parametrize(
    ("name", "norm", "goal", "check"),
    # a goal changes what is climbed and judged, whatever the norm; a second one what is judged alone
    [
        (name, norm, goal, check)
        if goal == GOALS[1] or check in (checks.check_honest, checks.check_zero_budget, checks.check_counts)
        else pytest.param(name, norm, goal, check, marks=pytest.mark.slow)
        for name, norm in FIRST_NORM
        for goal in GOALS[1:]
        if goal in ATTACKS[name].goals
        for check in checks.OF_GOALS
    ],
    ids=lambda v: v if isinstance(v, str) else v.__name__,
)
def test_promise_under_other_goals(name: str, norm: str, goal: str, check) -> None:
    promise(check, name, case_of(name, norm, goal))


@every_attack
def test_the_cases_are_not_empty(name: str, norm: str) -> None:
    """Some samples fall and some stand, or the promises above would say little."""
    found = case_of(name, norm).once(make(name))
    fallen = int(found.success[2:].sum())
    assert fallen < 10
    assert name in AIMLESS or fallen > 0


@every_promise((*IN_DOUBLE, checks.check_honest, checks.check_subsets, checks.check_counts), IN_DOUBLE)
def test_promise_in_double_precision_without_a_box(name: str, norm: str, check) -> None:
    """Either alone: both precisions see the same with a box, and the check of strength has none."""
    # far outside the box the network has no slope, and the oracle's further looks there are more than the counts expect
    promise(check, name, case_of(name, norm, dtype=torch.float64, box=check is checks.check_counts))


SHAPES = [((1, 5, 3), 2), ((1, 1, 2), 3), ((3, 2, 7), 10), ((4, 3, 3), 4), ((3, 3, 4), 1000)]


@pytest.mark.parametrize(
    ("name", "norm", "turn"),
    # each shape meets two in five of the attacks and norms by turns, and the rest among the slow tests
    [
        (*pair, turn) if turn in (0, 2) else pytest.param(*pair, turn, marks=pytest.mark.slow)
        for pair in PAIRS
        for turn in range(len(SHAPES))
    ],
)
def test_promise_for_other_shapes(name: str, norm: str, turn: int) -> None:
    shape, classes = SHAPES[(PAIRS.index((name, norm)) + turn) % len(SHAPES)]
    if norm == "ycbcr" and shape[0] != 3:
        with pytest.raises(BadInput, match="red, green and blue"):
            case_of(name, norm, shape=shape, classes=classes, n=4).once(make(name))
        return
    here = case_of(name, norm, shape=shape, classes=classes, n=4)
    checks.check_result(here.once(make(name)), here)
    # once for each attack and once for each shape, as far as the norms go
    if turn == 0:
        checks.check_zero_budget(make(name), here)


@every_attack
def test_both_precisions_see_the_same(name: str, norm: str) -> None:
    single, double = (case_of(name, norm, dtype=dtype).once(make(name)) for dtype in (torch.float32, torch.float64))
    assert torch.allclose(single.x.double(), double.x, atol=1e-4)
    assert torch.equal(single.success, double.success)


@pytest.mark.parametrize(
    ("name", "norm"), [pair for pair in PAIRS if pair[0] not in AIMLESS | ONE_WAY], ids=lambda v: v
)
def test_strength(name: str, norm: str) -> None:
    checks.check_strength(build(name, **FEWER.get(name, {})), norm, SHARE.get((name, norm), 1.0))


@every_attack
def test_seeds(name: str, norm: str) -> None:
    """Another seed is another attempt for a random attack, and nothing to any other."""
    here = case_of(name, norm)
    one, other = (like.once(make(name), Keeps.LAST).x for like in (here, here.but(seed=1)))
    moved = (one != other).flatten(1).any(1)
    if name in RANDOM:
        assert int(moved.sum()) > len(one) / RARELY.get((name, norm), 2)
    else:
        assert not bool(moved.any())


@every_attack
def test_samples_of_a_random_attack_differ(name: str, norm: str) -> None:
    """The same image twice, under two names, gets two perturbations."""
    here = case_of(name, norm)
    twice = here.but(x=here.x[2:3].repeat(2, 1, 1, 1), goal=type(here.goal)(here.goal.y[2:3].repeat(2)))
    oracle = Remembering(TorchOracle(twice.model))
    twice.run(make(name), Keeps.LAST, oracle)
    # some attacks ask about the image itself first
    looked = [points for _, points, _ in oracle.looks if not torch.equal(points, twice.x)]
    alike = all(torch.allclose(points[0], points[1], atol=1e-4) for points in looked)
    assert alike == (name not in RANDOM)


@pytest.mark.parametrize("name", [name for name, entry in ATTACKS.items() if "linf" in entry.norms])
def test_the_grid_costs_nothing(name: str) -> None:
    checks.check_grid_costs_no_success(make(name), case_of(name, "linf"))


@every_attack
def test_a_model_without_gradient_is_not_an_error(name: str, norm: str) -> None:
    """A flat model gives nothing to climb: the attack ends, inside budget and box, and breaks no one."""

    class Flat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.flatten(1).sum(1) * 0 + 1, x.flatten(1).sum(1) * 0], 1)

    here = case_of(name, norm)
    flat = Case(Flat(), here.x, type(here.goal)(torch.zeros(len(here.x), dtype=torch.int64)), here.threat)
    found = flat.once(make(name))
    assert not bool(found.success.any())
    checks.check_budget(make(name), flat)


@every_attack
def test_no_images(name: str, norm: str) -> None:
    here = case_of(name, norm)
    empty = here.but(x=here.x[:0], goal=type(here.goal)(here.goal.y[:0]))
    found = empty.run(make(name))
    assert found.x.shape == (0, 3, 4, 5)
    assert len(found.success) == 0
