"""The escalation breaks what a defence hides, and every image it shows is judged by the model itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD, build
from assay.audit.checks import examine
from assay.audit.escalate import escalate
from assay.audit.evidence import gather
from assay.audit.probes.attacks import Tries
from assay.audit.progress import PassLimit
from assay.audit.stronger_attacks import stronger_attacks
from assay.audit.subject import Subject
from assay.core.compose import run
from assay.core.oracle import TorchOracle
from assay.core.threat import L0, L1, L2, Linf, Threat
from tests.support.bench import make
from tests.support.subjects import CLEAN, SIDE, Around, Layer, leaf, network, pictures, subject

THREATS = (Linf(0.3), L2(1.5), L1(8.0), L0(8))


def rounded(x: Tensor) -> Tensor:
    return (x * 8).round() / 8


def flat_image(x: Tensor) -> Tensor:
    return x.detach() + 0 * x


def asked(given: Subject) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return escalate(given, gather(given))


@pytest.mark.parametrize(
    ("threat", "channels"),
    [*((threat, 1) for threat in THREATS), (THREATS[0], 3)],
    ids=lambda one: str(one) if isinstance(one, int) else one.norm.name,
)
def test_what_is_broken_is_broken_inside_budget_and_box(threat: Threat, channels: int) -> None:
    module = network(channels)
    name = "sigma-zero" if threat.norm.name == "l0" else "pgd"
    given = subject(module, threat, channels=channels, methods=(build(name, steps=10),))
    broken = asked(given)
    assert len(broken.at) >= 2
    assert len(set(broken.at.tolist())) == len(broken.at)
    x, y = given.problem.x[broken.at], given.problem.goal.y[broken.at]
    assert threat.allows(threat.size(broken.images, x)).all()
    assert threat.in_box(broken.images).all()
    with torch.no_grad():
        said = module(broken.images).argmax(1)
    assert torch.equal(said, broken.classes)
    assert (said != y).all()
    assert sum(one.broken for one in broken.attempts) == len(broken.at)
    assert broken.passes == sum(one.passes for one in broken.attempts) > 0


@pytest.mark.parametrize(
    ("make", "own"),
    [(Linf, False), (L2, True), (L1, False), (L0, True)],
    ids=lambda one: one.__name__ if callable(one) else "a mask each" if one else "one mask",
)
def test_what_is_broken_in_a_mask_is_as_it_was_outside(make: Any, own: bool) -> None:
    module = network()
    mask = torch.rand((8, 1, SIDE, SIDE) if own else (1, SIDE, SIDE), generator=torch.Generator().manual_seed(3)) < 0.5
    eps = {Linf: 0.9, L2: 4.0, L1: 14.0, L0: 15}[make]
    methods = (build("sigma-zero" if make is L0 else "pgd", steps=10),)
    given = subject(module, make(eps, mask=mask), methods=methods)
    broken = asked(given)
    assert len(broken.at) >= 1
    x, free = given.problem.x[broken.at], mask[broken.at] if own else mask
    assert torch.equal(torch.where(free, 0, broken.images), torch.where(free, 0, x))
    with torch.no_grad():
        assert torch.equal(module(broken.images).argmax(1), broken.classes)


def test_each_attempt_meets_what_the_ones_before_left() -> None:
    given = subject(network(), Linf(0.05))
    left = len(given.survived)
    for attempt in asked(given).attempts:
        assert attempt.asked == left
        left -= attempt.broken


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (None, lambda logits: logits * 1e6, "margin"),
        (flat_image, None, "past inner.0"),
        (rounded, lambda logits: logits * 1e6, "past inner.0 from the logits of inner"),
    ],
)
def test_a_defence_is_broken_by_what_it_is_blind_to(before: Any, after: Any, name: str) -> None:
    given = subject(Around(network(), before, after), Linf(0.4))
    attempts = {one.name: one for one in asked(given).attempts}
    assert attempts[name].broken >= 6


def test_survivors_alone_are_asked_and_nobody_where_none_are() -> None:
    given = subject(network(), Linf(0.4))
    some = dataclasses.replace(given, survived=torch.arange(len(given.survived)) < 3)
    assert set(asked(some).at.tolist()) <= {0, 1, 2}
    nobody = asked(dataclasses.replace(given, survived=torch.zeros_like(given.survived)))
    assert (len(nobody.at), len(nobody.images), nobody.attempts, nobody.passes) == (0, 0, (), 0)


class Coin(nn.Module):
    """Answers another class once in four times, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        astray = (torch.rand(len(x), 1) < 0.25).float()
        logits = torch.cat([1 - astray, astray, torch.zeros(len(x), 2)], 1) * self.scale
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_random_model_is_judged_by_the_majority_of_its_answers() -> None:
    right = torch.zeros(8, dtype=torch.int64)
    torch.manual_seed(0)
    given = subject(Coin(), Linf(0.3), y=right)
    broken = asked(given)
    assert broken.attempts
    assert len(broken.at) <= 1


def test_a_random_model_that_hides_its_gradient_is_broken_on_average() -> None:
    def noise(logits: Tensor) -> Tensor:
        return logits + 0.02 * torch.randn_like(logits)

    broken = asked(subject(Around(network(), after=noise), Linf(0.4)))
    assert len(broken.at) >= 6


def test_a_random_model_is_climbed_on_average_where_nothing_stands_around_the_noise() -> None:
    inside = Layer(lambda hidden: hidden + 0.5 * torch.randn_like(hidden))
    plain = network()
    assert isinstance(plain, nn.Sequential)
    module = nn.Sequential(*plain[:2], inside, *plain[2:]).eval()
    given = subject(module, Linf(0.01), y=plain(pictures()).argmax(1))
    evidence = dataclasses.replace(
        CLEAN, answers=dataclasses.replace(CLEAN.answers, differ=1.0), leaves=(leaf(averages=True), *CLEAN.leaves[1:])
    )
    attempts = {one.name: one for one in escalate(given, evidence).attempts}
    averaged = attempts["averaged over the randomness"]
    # fifty steps of ten looks, the last of which is one, and ten looks that judge
    assert averaged.passes == averaged.asked * (50 * 10 + 1 + 10)


@pytest.mark.parametrize("survivors", [pytest.param(8, marks=pytest.mark.slow), 3])
def test_a_limit_is_kept_and_what_it_leaves_out_is_named(survivors: int) -> None:
    given = subject(network(), Linf(1e-4))
    given = dataclasses.replace(given, survived=torch.arange(len(given.survived)) < survivors)
    whole = escalate(given, CLEAN)
    assert whole.passes > 200 * survivors and not any(one.skipped for one in whole.attempts)
    for most in (60 * survivors, whole.passes):
        limit = PassLimit(most)
        cut = escalate(given, CLEAN, limit=limit)
        assert cut.passes == limit.spent <= most
        # nothing is lost in silence: each attempt is there, with who was asked and who was not
        assert [one.name for one in cut.attempts] == [one.name for one in whole.attempts]
        for one, all_of_it in zip(cut.attempts, whole.attempts, strict=True):
            assert one.asked + one.skipped == all_of_it.asked
        assert any(one.skipped for one in cut.attempts) == (most < whole.passes)


def test_what_promises_the_most_per_pass_comes_first_and_the_blind_last_where_gradients_lead() -> None:
    given = subject(Around(network(), flat_image), Linf(0.1), twin=TorchOracle(network()))
    evidence = dataclasses.replace(gather(given), black_box=Tries(8, {"transfer": 4}))
    made = stronger_attacks(given, evidence, examine(evidence))
    rates = [one.promise / one.most_passes(given, evidence) for one in made if not one.blind and one.promise > 0.1]
    assert made[0].name == "transfer"
    assert rates == sorted(rates, reverse=True) and len(rates) >= 2
    led = stronger_attacks(subject(network(), Linf(0.1)), CLEAN, examine(CLEAN), long=True)
    assert [one.blind for one in led] == sorted(one.blind for one in led) and led[-1].blind


def test_where_no_gradient_leads_anywhere_the_limit_is_not_spent_on_gradients() -> None:
    # nothing of it can be differentiated, and nothing goes around it: only scores and labels tell
    first, bias, second, last = (one.detach() for one in network().parameters())
    written_out = Layer(lambda x: (torch.tanh(x.flatten(1) @ first.T + bias) @ second.T + last).detach() + 0 * x.sum())
    given = subject(written_out, Linf(0.3))
    evidence = gather(given)
    broken = escalate(given, evidence, limit=PassLimit(200 * len(given.survived)))
    tried = [one.name for one in broken.attempts if one.asked]
    assert len(broken.at) == len(given.survived) and "square" in tried


def test_what_an_attack_takes_at_most_is_what_it_takes_where_nothing_breaks() -> None:
    given = subject(network(), Linf(1e-6), methods=(PGD(10),))
    sight = dataclasses.replace(CLEAN.sight, edges=0.5)
    evidence = dataclasses.replace(CLEAN, sight=sight, again=Tries(8, {"again": 3}))
    expected = {
        one.name: one.most_passes(given, evidence) for one in stronger_attacks(given, evidence, examine(evidence))
    }
    for one in escalate(given, evidence).attempts:
        assert one.passes <= len(given.survived) * expected[one.name], one
        assert one.passes >= 0.5 * len(given.survived) * expected[one.name], one


def test_an_interrupt_keeps_what_is_broken_and_names_what_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject(network(), Linf(0.05))
    whole = escalate(given, CLEAN)
    assert len(whole.attempts) >= 3 and not whole.stopped
    monkeypatch.setattr("assay.audit.escalate.AT_ONCE", 3)
    runs: list[int] = []

    def run_and_stop(*arguments: Any, **settings: Any) -> Any:
        runs.append(0)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return run(*arguments, **settings)

    monkeypatch.setattr("assay.audit.escalate.run", run_and_stop)
    limit = PassLimit()
    cut = escalate(given, CLEAN, limit=limit)
    assert cut.stopped
    first = cut.attempts[0]
    assert (first.name, first.asked, first.skipped) == (whole.attempts[0].name, 6, 2)
    assert set(cut.at.tolist()) <= set(whole.at.tolist()) and len(cut.at) == first.broken
    assert all(one.asked == 0 and one.skipped == 8 - first.broken for one in cut.attempts[1:])
    assert {one.name for one in cut.attempts} >= {one.name for one in whole.attempts}
    assert cut.passes == limit.spent > 0


def test_the_long_way_adds_the_slow_attacks_and_a_twin_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    # short ones in their place: which are tried is asked, not what they break
    monkeypatch.setattr("assay.audit.stronger_attacks.build", lambda name, **_: make(name))
    constant = Around(network(), after=lambda logits: logits * 0 + torch.tensor([1.0, 0.0, 0.0, 0.0]))
    given = subject(constant, Linf(0.05), twin=TorchOracle(network()))
    evidence = gather(given)
    short, long = ({one.name for one in escalate(given, evidence, long=long).attempts} for long in (False, True))
    assert "transfer" in short
    assert long - short == {"cascade", "more starts"}


@pytest.mark.parametrize(("broken", "tried"), [(0, 3), (2, 8)])
def test_what_the_evidence_broke_is_tried_on_every_survivor(
    broken: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.audit.escalate.FEW", 3)
    evidence = dataclasses.replace(CLEAN, nearest=Tries(8, {"": broken}))
    attempts = escalate(subject(network(), L1(1e-4)), evidence).attempts
    assert next(one.asked for one in attempts if one.name == "smallest perturbations") == tried


def test_a_module_that_can_be_asked_in_one_way_alone_is_still_judged() -> None:
    class Fussy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.reshape(-1, 1, SIDE, SIDE))  # type: ignore[no-any-return]

    given = subject(Fussy(), Linf(0.4))
    broken = asked(given)
    assert len(broken.at) >= 4


def test_an_attempt_that_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr("assay.audit.escalate.run", fail)
    one = subject(network())
    broken = escalate(dataclasses.replace(one, survived=torch.ones_like(one.survived)), CLEAN)
    assert not len(broken.at)
    assert broken.attempts
    assert all(tried.broken == 0 and "could not be tried: out of memory" in tried.why for tried in broken.attempts)
