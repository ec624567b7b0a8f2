"""Audits of models that refuse images or stand behind defences: what is asked of them alone, and what must not mislead.

A refusal is one logit more, which is no class; broken detectors are flagged for what is wrong with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD, build
from assay.audit.bypass import Accepting, Weighed
from assay.audit.checks import CHECKS, examine, flags
from assay.audit.evidence import Evidence, gather
from assay.audit.evidence import planted as probe_planted
from assay.audit.planted import Planted, plant_and_search
from assay.audit.probes.attacks import growth
from assay.audit.probes.determinism import answers
from assay.audit.probes.gradient_signal import sight
from assay.audit.probes.refusals import refusals
from assay.audit.stronger_attacks import stronger_attacks
from assay.audit.subject import CleanRefusals, CountingOracle, Subject
from assay.core.compose import Through
from assay.core.draws import Draws, current
from assay.core.goal import Goal, Untargeted
from assay.core.lenses import Expectation
from assay.core.objective import Objective, margin
from assay.core.oracle import Access, LookPasses, TorchOracle
from assay.core.signals import Signals, signals_of, with_refusal
from assay.core.threat import L2, Linf
from assay.defenses.chain import parse_chain
from assay.defenses.layers import Detection, Rejecting
from assay.defenses.table import DEFENSES
from tests.support.subjects import CLASSES, GUARDED, SIDE, Counting, N, network, pictures, subject


class Scored(nn.Module):
    """A detector whose score is a small network's, changed by a function."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.Tanh(), nn.Linear(16, 1))
        self.change = change

    def forward(self, x: Tensor, inner: nn.Module) -> Detection:
        return Detection(signals_of(inner, x), self.change(5 * self.net(x)[:, 0]))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "honest": lambda score: score,
    "detached": lambda score: score.detach(),
    "batch": lambda score: score - score.mean(),
}


def rejecting(change: str = "honest", threshold: float | None = None) -> nn.Module:
    """Return a network with a detector that refuses none of the pictures, just so, or with a threshold of its own."""
    detector = Scored(CHANGES[change])
    with torch.no_grad():
        highest = float(detector(pictures(), network()).score.max())
    return Rejecting(detector, network(), highest + 0.1 if threshold is None else threshold).eval()


def looked_at(module: nn.Module, **more: Any) -> Subject:
    return subject(module, more.pop("threat", Linf(0.3)), reject=-1, methods=(PGD(10, objective=margin),), **more)


@pytest.mark.parametrize(("change", "zero", "company"), [("honest", 0, 0), ("detached", 1, 0), ("batch", 0, 1)])
def test_a_score_without_a_gradient_or_made_of_the_batch_is_seen(change: str, zero: float, company: float) -> None:
    seen = refusals(looked_at(rejecting(change)))
    assert seen is not None
    assert seen.company == company
    # the mean of a batch takes nothing from the gradient of a score that is asked alone
    assert change == "batch" or seen.zero == zero
    assert (seen.n, seen.wrong) == (N, N)


CAUSES = {
    "detached": "the detector's score has no gradient",
    "batch": "refusals depend on the batch",
    "idle": "the detector refuses nothing",
}


@pytest.mark.parametrize("broken", CAUSES)
def test_a_broken_detector_is_flagged_for_what_is_wrong_with_it(broken: str) -> None:
    module = rejecting() if broken == "idle" else rejecting(broken)
    if broken == "idle":
        module = rejecting(threshold=1e4)
    given = looked_at(module, clean=CleanRefusals(100, 0))
    told = dataclasses.replace(GUARDED, refusals=refusals(given))
    assert CAUSES[broken] in {CHECKS[one.check].cause for one in flags(examine(told))}


def test_other_norms_and_forced_refusals_are_told_and_touch_no_verdict() -> None:
    told = {name for name, check in CHECKS.items() if check.of_defenses and not check.mandatory}
    assert told == {"other norms", "forced rejection", "threshold drift"}


def test_the_gap_to_a_refusal_is_no_gap_between_classes() -> None:
    class Close(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            logits = self.inner(x)
            return with_refusal(Signals(logits, torch.full_like(logits[:, 0], -1e-3)))

    assert sight(looked_at(Close())).median_gap == sight(subject(network(), Linf(0.3))).median_gap > 2e-3


def test_probabilities_are_those_of_the_classes() -> None:
    class Softmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            share = self.inner(x).softmax(1)
            return with_refusal(Signals(share, torch.full_like(share[:, 0], -0.5)))

    assert answers(looked_at(Softmax())).probabilities


def test_a_model_may_well_refuse_what_all_images_can_become() -> None:
    assert growth(subject(network(), Linf(0.3))).half_range is not None
    seen = growth(looked_at(rejecting()))
    assert seen.half_range is None
    assert seen.unbounded is not None


class Drawing(nn.Module):
    """Adds noise that is drawn as models in this library draw it: equal looks see equal noise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits + current(x).normal("noise", CLASSES)


def test_a_model_that_draws_its_answers_is_random() -> None:
    given = subject(Drawing())
    drawn = CountingOracle(TorchOracle(given.module, random=True))
    seen = answers(dataclasses.replace(given, problem=dataclasses.replace(given.problem, oracle=drawn)))
    assert (seen.differ, seen.company) == (1.0, 0.0)


def test_what_refuses_nothing_is_asked_without_a_refusal() -> None:
    # the last class of a network is no refusal: an image that ends there is broken
    module = network()
    goal = Untargeted(torch.zeros(N, dtype=torch.int64), reject=-1)

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return module(x) * 0 + torch.tensor([0.0, 0.0, 0.0, 1.0])

    draws = Draws(torch.arange(N))
    own = TorchOracle(Last())
    assert not own.look(pictures(), goal, margin, Access.SCORES, draws).reached.any()
    assert Accepting(own).look(pictures(), goal, margin, Access.SCORES, draws).reached.all()


@pytest.mark.parametrize("times", [0.1, 10.0])
def test_refusals_weighed_otherwise_change_no_answer(times: float) -> None:
    module = rejecting(threshold=0.0)
    x = torch.rand(200, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, other = module(x), Weighed(module, times)(x)
    assert torch.equal(one.argmax(1), other.argmax(1))
    assert 0 < int((one.argmax(1) == CLASSES).sum()) < len(x)
    torch.testing.assert_close(other[:, -1] - one[:, :-1].amax(1), times * (one[:, -1] - one[:, :-1].amax(1)))


class Heedless:
    """The margin of the classes alone: an attack on it does not know that images are refused."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        return margin(logits[:, :-1], Untargeted(goal.y))


def planted(module: nn.Module, objective: Objective) -> Planted:
    given = looked_at(module, threat=L2(1.5))
    problem = dataclasses.replace(given.problem, oracle=given.meter.oracle)
    return plant_and_search(module, problem, given.draws, PGD(40, objective=objective))


def test_planted_points_are_wrong_and_accepted() -> None:
    knowing, heedless = planted(rejecting(), margin), planted(rejecting(), Heedless())
    assert (knowing.n, knowing.found, knowing.by_chance) == (N, N, 0)
    # found by luck at most: less than an evaluation may miss
    assert heedless.n == N
    assert heedless.found < 0.95 * N


@pytest.mark.parametrize("way", ["selective", "views"])
def test_attacks_that_know_the_detector_can_be_asked_for_planted_points(way: str) -> None:
    known = build("pgd", steps=40, objective="margin", adaptive=way)
    found = probe_planted(dataclasses.replace(looked_at(rejecting(), threat=L2(1.5)), methods=(known,)))
    assert found is not None
    assert found.found >= 0.8 * found.n > 0


def test_every_pass_is_counted_where_points_are_planted_past_a_detector() -> None:
    module = rejecting()
    module.inner = counting = Counting(module.inner)  # type: ignore[assignment]  # as a network is
    given = looked_at(module, threat=L2(1.5))
    counting.rows = 0
    problem = dataclasses.replace(given.problem, oracle=given.meter.oracle)
    found = plant_and_search(module, problem, given.draws, PGD(5, objective=margin))
    assert found.forwards == counting.rows


def test_a_look_of_several_passes_is_paid_for_as_such() -> None:
    given = looked_at(rejecting(), allowance=2000.0)
    dear = CountingOracle(TorchOracle(given.module, passes=LookPasses(4, 4)))
    dear_one = dataclasses.replace(given, problem=dataclasses.replace(given.problem, oracle=dear))
    assert len(dear_one.some("growth", 10, 8).survived) < len(given.some("growth", 10, 8).survived)
    evidence = GUARDED
    costs = [{one.name: one.most_passes(who, evidence) for one in tried(who, evidence)} for who in (given, dear_one)]
    assert all(costs[1][name] == 4 * costs[0][name] for name in costs[0])


def tried(given: Subject, evidence: Evidence) -> Any:
    return stronger_attacks(given, evidence, examine(evidence))


def test_a_defence_is_tried_from_outside() -> None:
    names = {one.name for one in tried(looked_at(rejecting()), GUARDED)}
    assert {"past the defence", "square", "hop-skip-jump", "margin"} <= names
    assert {"refusals weighed 0.1 times", "refusals weighed 10 times"} <= names
    assert not {"past the defence", "square"} & {one.name for one in tried(subject(network()), GUARDED)}


def test_an_attack_that_the_table_names_for_a_defence_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    named = dataclasses.replace(DEFENSES["max-softmax"], adaptive=("pgd:steps=7,objective=margin",))
    monkeypatch.setitem(DEFENSES, "max-softmax", named)
    given = looked_at(rejecting(), defenses=parse_chain("max-softmax:threshold=-0.5"))
    (found,) = [one for one in tried(given, GUARDED) if one.name == "pgd:steps=7,objective=margin"]
    assert found.method == PGD(7, objective=margin)
    random = dataclasses.replace(GUARDED, answers=dataclasses.replace(GUARDED.answers, differ=1.0))
    (averaged,) = [one for one in tried(given, random) if one.name == found.name]
    assert averaged.method == Through(Expectation(10), PGD(7, objective=margin))


def test_nothing_more_is_asked_of_a_plain_model() -> None:
    evidence = gather(subject(network(), Linf(0.3)))
    assert (evidence.refusals, evidence.other_norms) == (None, None)
