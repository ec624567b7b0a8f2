"""Transfer attacks: the published rules, and attacks that are made on one model and judged by another."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import build
from assay.attacks.ddn import DDN
from assay.attacks.gradient import BIM, MIFGSM
from assay.attacks.transfer import VMIFGSM, vmi_fgsm
from assay.core.compose import Cascade, EachTarget, Restarts, Through, Transferred, run, stages
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.lenses import ScaleCopies, TranslationInvariance
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, SearchResult
from assay.core.sweep import sweep
from assay.core.threat import L2, Linf
from assay.vocabulary import Question
from tests.support import checks
from tests.support.bench import Case, Curved, Remembering, case


def test_variance_tuning_follows_the_published_rule() -> None:
    here, neighbours, steps = case("linf", dtype=torch.float64, n=4), 3, 4
    eps, attack = float(here.threat.eps), VMIFGSM(steps, neighbours)
    oracle = Remembering(TorchOracle(here.model))
    found = here.run(attack, oracle=oracle)
    looks = [points for _, points, _ in oracle.looks]
    assert len(looks) == steps + (steps - 1) * neighbours + 1 == attack.steps + 1

    def gradient(z: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        return torch.autograd.grad(here.goal.surprise(here.model(z)).sum(), z)[0]

    x, momentum, variance = here.x, torch.zeros_like(here.x), torch.zeros_like(here.x)
    for t in range(steps):
        at = t * (neighbours + 1)
        assert torch.allclose(looks[at], x, atol=1e-9)
        own = gradient(x)
        tuned = own + variance
        momentum = momentum + tuned / tuned.abs().mean((1, 2, 3), keepdim=True)
        around = looks[at + 1 : at + 1 + neighbours] if t + 1 < steps else []
        for one in around:
            assert 0.5 * eps < float((one - x).abs().max()) <= 1.5 * eps * (1 + 1e-6)
        if around:
            variance = torch.stack([gradient(one) for one in around]).mean(0) - own
        x = (x + eps / steps * momentum.sign()).clamp(here.x - eps, here.x + eps).clamp(0, 1)
    assert torch.allclose(found.x, x, atol=1e-9)


def test_a_neighbour_that_breaks_the_model_inside_the_budget_counts_and_no_other() -> None:
    here = case("linf", n=40)
    oracle = Remembering(TorchOracle(here.model))
    found = here.run(vmi_fgsm(3, 3, radius=0.5), Keeps.FIRST, oracle)
    assert bool(here.threat.allows(found.size).all()) and int(found.success.sum()) > 2
    checks.check_finished_rows(vmi_fgsm(3, 3, radius=0.5), here)


def test_bad_options() -> None:
    with pytest.raises(BadInput, match="0 iterations and 5 neighbours"):
        VMIFGSM(0)
    with pytest.raises(BadInput, match="10 iterations and 0 neighbours"):
        VMIFGSM(neighbours=0)


def test_options_arrive() -> None:
    assert build("ti-fgsm", steps=4, kernel=5, decay=0.5) == Through(TranslationInvariance(5), MIFGSM(4, None, 0.5))
    assert build("si-fgsm", copies=2) == Through(ScaleCopies(2), MIFGSM(lookahead=True))
    assert build("vmi-fgsm", steps=3, neighbours=2) == VMIFGSM(3, 2)
    assert build("di-fgsm", probability=1, smallest_share=0.5).lens.probability == 1


@pytest.mark.parametrize("name", ["mi-fgsm", "di-fgsm", "ti-fgsm", "si-fgsm", "vmi-fgsm"])
def test_cost_is_what_is_said(name: str) -> None:
    here = case("linf")
    found = here.run(build(name, steps=4))
    copies = {"si-fgsm": 5}.get(name, 1)
    looks = 4 + 3 * 5 if name == "vmi-fgsm" else 4
    assert torch.equal(found.backwards, torch.full_like(found.backwards, copies * looks))
    assert torch.equal(found.forwards, torch.full_like(found.forwards, copies * looks + 1))


# made on a surrogate


def cousin(here: Case) -> Case:
    """Return the same images before another model that agrees with the first on most of them."""
    model = Curved((3, 4, 5))
    with torch.no_grad():
        model.first += 0.1 * torch.randn(model.first.shape, generator=torch.Generator().manual_seed(3)) / 60**0.5
    return here.but(model=model)


METHODS: dict[str, Any] = {
    "bim": BIM(3),
    "di-fgsm": build("di-fgsm", steps=3),
    "restarts": Restarts(build("pgd", steps=2), 2),
    "each target": EachTarget(BIM(2), 2),
    "cascade": Cascade((BIM(1), BIM(3)), ("short", "long")),
    "ddn": DDN(5),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_model_itself_is_asked_once_about_each_sample(name: str) -> None:
    here = case("l2", n=30)
    home = cousin(here)
    assert isinstance(here.model, Curved) and isinstance(home.model, Curved)
    method = Transferred(METHODS[name], TorchOracle(home.model))
    oracle = Remembering(TorchOracle(here.model))
    found = here.run(method, oracle=oracle)
    assert len(oracle.looks) == 1 and here.model.forwards == 30 and here.model.backwards == 0
    assert torch.equal(found.queries, torch.ones_like(found.queries))
    assert int(found.forwards.sum()) == home.model.forwards + 30
    assert int(found.backwards.sum()) == home.model.backwards
    assert method.access is Access.LABELS and method.keeps is Keeps.LAST
    assert stages(method) == stages(METHODS[name])
    # the images are the surrogate's, the verdict is the model's
    kept = Keeps.SMALLEST if name == "ddn" else Keeps.LAST
    made = home.run(METHODS[name], kept)
    assert torch.allclose(found.x, made.x) and not torch.equal(found.gap, made.gap)
    checks.check_honest(method, here)


@pytest.mark.parametrize(
    "check", [checks.check_budget, checks.check_box, checks.check_inputs_unchanged, checks.check_zero_budget,
              checks.check_subsets, checks.check_subsets_of_every_keeping, checks.check_budget_per_sample]
)  # fmt: skip
def test_promises_of_transferred_attacks(check: Any) -> None:
    here = case("l2")
    check(Transferred(METHODS["restarts"], TorchOracle(cousin(here).model)), here)


def test_goals_labels_and_what_is_known_are_the_models_own() -> None:
    for goal in ("targeted", "out-of-top"):
        here = case("linf", goal, n=30)
        method = Transferred(BIM(5), TorchOracle(cousin(here).model))
        checks.check_honest(method, here)
        assert torch.allclose(here.run(method).x, cousin(here).run(BIM(5)).x)
    here = case("linf", n=30)
    method = Transferred(BIM(3), TorchOracle(cousin(here).model))
    known = here.problem()
    seen = known.oracle.look(here.x, here.goal, BIM().objective, Access.GRADIENT, here.draws)
    from assay.core.problem import CachedLook

    known = dataclasses.replace(known, known=CachedLook(here.x, BIM().objective, seen))
    assert torch.equal(run(method, known, here.draws).x, here.run(method).x)


def test_curves_of_transferred_attacks() -> None:
    here = case("linf", n=30)
    method = Transferred(BIM(3), TorchOracle(cousin(here).model))
    budgets = [0.0, 0.03, 0.06, 0.12]
    for question in Question:
        curve = sweep(method, here.problem(), here.draws, budgets, question)
        broken = [int(one.success.sum()) for one in curve.found]
        assert broken == sorted(broken) and broken[-1] > broken[0]


def test_no_images() -> None:
    here = case("linf")
    empty = here.but(x=here.x[:0], goal=type(here.goal)(here.goal.y[:0]))
    assert len(empty.run(Transferred(BIM(3), TorchOracle(here.model))).x) == 0


def _pushed(norm: str, attack: str, eps: float, *, pushed: bool) -> SearchResult:
    """Return what an attack on a linear model does to one that has its boundary a quarter farther away."""
    near, far = (nn.Sequential(nn.Flatten(), _Plane(shift)) for shift in (0.4, 0.5))
    x = torch.full((3, 1, 2, 2), 0.5)
    threat = {"l2": L2, "linf": Linf}[norm](eps)
    here = Problem(TorchOracle(far), x, Untargeted(torch.zeros(3, dtype=torch.int64)), threat.at(eps))
    return run(Transferred(build(attack), TorchOracle(near), pushed), here, Draws.of(["a", "b", "c"], 0))


class _Plane(nn.Module):
    """Class 1 from where the mean of the four values is `shift` above one half, in their L2 size."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        over = (x - 0.5).sum(1) / 2 - self.shift
        return torch.stack([torch.zeros_like(over), over], 1)


@pytest.mark.parametrize("attack", ["ddn", "fab", "fmn"])
def test_pushed_images_go_to_the_edge_of_the_budget(attack: str) -> None:
    """A smallest success lies at .4, the model falls at .5: only the image at the edge of .6 shows that."""
    alone, far = (_pushed("l2", attack, 0.6, pushed=pushed) for pushed in (False, True))
    assert not alone.success.any()
    assert (alone.size < 0.5).all()
    assert far.success.all()
    assert far.size.tolist() == pytest.approx([0.6] * 3, abs=1e-4)
    assert (far.queries == 2).all() and (alone.queries == 1).all()
    # where the budget does not reach, nothing is said to break, and no point leaves it
    small = _pushed("l2", attack, 0.45, pushed=True)
    assert not small.success.any() and (small.size <= 0.45 + 1e-5).all()


def test_pushed_images_of_a_climbing_attack_are_those_that_the_surrogate_gets_most_wrong() -> None:
    found = _pushed("linf", "pgd", 0.3, pushed=True)
    assert found.success.all()
    assert (found.queries == 1).all()
    assert found.size.tolist() == pytest.approx([0.3] * 3, abs=1e-5)


def test_a_surrogate_of_other_classes_is_refused() -> None:
    x = torch.full((1, 1, 2, 2), 0.5)
    three = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    here = Problem(
        TorchOracle(nn.Sequential(nn.Flatten(), _Plane(0.5))), x, Untargeted(torch.zeros(1).long()), Linf(0.1)
    )
    with pytest.raises(BadInput, match="The surrogate answers with 3 classes, the model with 2"):
        run(Transferred(build("fgsm"), TorchOracle(three)), here, Draws.of(["a"], 0))
