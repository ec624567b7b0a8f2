"""What leads on a model is found wherever it stands, follows its own slopes, and lets the model judge."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.audit.guides import ClassMeans, Guided, WideSlopes, guides, parts_of
from assay.audit.probes.attacks import Tries
from assay.audit.probes.other_slopes import LEAST, Neighbourhood, guided, wide, widths
from assay.audit.stronger_attacks import stronger_attacks
from assay.audit.subject import Subject
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, TorchOracle
from assay.core.threat import L0, L1, L2, Linf, Threat
from assay.models.static_batch import StaticBatch
from tests.support.subjects import CLASSES, CLEAN, SIDE, Around, Counting, Layer, N, network, pictures, subject


class Alone(nn.Module):
    """Answers with the class alone, and keeps its network wherever it is told to."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        while not callable(inner):
            inner = inner[0] if isinstance(inner, list | tuple) else inner["network"]
        return nn.functional.one_hot(inner(x.detach()).argmax(1), CLASSES) + 0 * x.flatten(1).sum(1, keepdim=True)


def closure(inner: nn.Module) -> Any:
    return lambda x: inner(x)


HOMES: dict[str, Any] = {
    "submodule": lambda inner: inner,
    "tuple": lambda inner: (inner,),
    "list in a dictionary": lambda inner: {"network": [inner]},
    "closure": closure,
    "partial function": lambda inner: functools.partial(lambda kept, x: kept(x), inner),
    "method": lambda inner: inner.forward,
}


@pytest.mark.parametrize("home", ["submodule", "closure"])
def test_a_network_inside_leads_wherever_it_is_kept(home: str) -> None:
    inner = network()
    module = Alone(HOMES[home](inner))
    given = subject(module, Linf(0.3))
    seen = guided(given)
    assert seen.asked == N and seen.best >= 0.75
    # the noise of a neighbourhood alone finds few: there is no slope
    assert wide(given).best <= 0.25


def test_every_part_is_named_once_wherever_it_is_kept() -> None:
    for home, kept in HOMES.items():
        inner = network()
        found = list(parts_of(Alone(kept(inner))).values())
        assert sum(one is inner for one in found) == 1, home
        assert len({id(one) for one in found}) == len(found)


def test_a_plain_network_holds_no_network_but_features() -> None:
    assert [one.name for one in guides(subject(network()))] == ["class means of features"]
    # what only scales the answer leads as the model does
    scaled = Around(network(), after=lambda logits: 3 * logits)
    assert [one.name for one in guides(subject(scaled))] == ["class means of features"]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_program_that_is_asked_in_pieces_is_the_model_and_no_network_inside_it(rows: int) -> None:
    program = torch.export.export(network(), (pictures()[:rows],)).module()
    found = guides(subject(StaticBatch(program, rows), Linf(0.3)))
    assert not [one for one in found if "features" not in one.name]


def test_a_network_that_is_asked_in_pieces_leads() -> None:
    program = torch.export.export(network(), (pictures()[:3],)).module()
    seen = guided(subject(Alone(StaticBatch(program, 3)), Linf(0.3)))
    assert seen.asked == N and seen.best >= 0.75


def test_two_networks_lead_together_and_apart() -> None:
    first, second = network(), network()
    for one in second.parameters():
        one.data = -one.data

    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: Tensor) -> Tensor:
            return torch.where((x.sum((1, 2, 3)) * 100).long()[:, None] % 2 == 0, first(x), second(x))

    assert [one.name for one in guides(subject(Either()))][:3] == ["the networks inside", "first", "second"]


def test_class_means_lead_where_the_head_has_no_slope() -> None:
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 12), nn.Tanh())
    keys = body(pictures()).detach()

    def nearest(features: Tensor) -> Tensor:
        return (
            nn.functional.one_hot(torch.cdist(features, keys).argmin(1) % CLASSES, CLASSES) + 0 * features[:, :CLASSES]
        )

    given = subject(Around(body, after=nearest), Linf(0.4))
    (lead,) = guides(given)
    assert isinstance(lead.oracle.guide, TorchOracle) and isinstance(lead.oracle.guide.model, ClassMeans)
    assert guided(given).best >= 0.75


def test_slopes_as_wide_as_activations_come_through_steps() -> None:
    def steps(h: Tensor) -> Tensor:
        return (h * 2).round() / 2

    inner = network()
    assert isinstance(inner, nn.Sequential)
    module = nn.Sequential(*inner[:2], Layer(steps), *inner[2:]).eval()
    x = pictures()
    wider = WideSlopes(module, [module[2]])
    assert torch.equal(wider(x), module(x))
    free = x.clone().requires_grad_()
    (told,) = torch.autograd.grad(wider(free)[:, 0].sum(), free)
    own = x.clone().requires_grad_()
    (smooth,) = torch.autograd.grad(inner(own)[:, 0].sum(), own)
    assert torch.nn.functional.cosine_similarity(told.flatten(1), smooth.flatten(1)).min() > 0.6
    assert guided(subject(module, Linf(0.3))).share("slopes as wide as activations") >= 0.75


def test_a_guide_gives_the_slope_and_the_model_the_answer() -> None:
    inner, other = network(), network()
    for one in other.parameters():
        one.data = -one.data
    x, y = pictures(), Untargeted(torch.zeros(N, dtype=torch.int64))
    draws = Draws.of([str(i) for i in range(N)], 0)
    seen = Guided(TorchOracle(inner), TorchOracle(other)).look(x, y, margin, Access.GRADIENT, draws)
    told, led = (TorchOracle(one).look(x, y, margin, Access.GRADIENT, draws) for one in (inner, other))
    assert torch.equal(seen.logits, told.logits) and torch.equal(seen.reached, told.reached)
    assert seen.grad is not None and led.grad is not None and torch.equal(seen.grad, led.grad)
    assert torch.equal(seen.cost.forwards, told.cost.forwards + led.cost.forwards)


def test_what_cannot_be_watched_has_no_guides() -> None:
    def fussy(x: Tensor) -> Tensor:
        if len(x) != N:
            raise RuntimeError("eight images or none")
        return x

    module = Around(network(), before=fussy)
    given = subject(module, y=torch.zeros(N, dtype=torch.int64))
    assert guides(given) == []
    assert guided(given).broken == {}


def waved(inner: nn.Module, height: float = 0.3, pitch: float = 60.0) -> nn.Module:
    along = torch.nn.functional.normalize(torch.randn(SIDE * SIDE, generator=torch.Generator().manual_seed(4)), dim=0)
    mix = torch.tensor([1.0, -1.0, 1.0, -1.0])

    class Waved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.weights = [one.detach() for one in inner.parameters()]

        def forward(self, x: Tensor) -> Tensor:
            # written out, so that no part of it can lead
            first, bias, second, last = self.weights
            logits = torch.tanh(x.flatten(1) @ first.T + bias) @ second.T + last
            return logits * 8 + height * torch.sin(pitch * (x.flatten(1) @ along))[:, None] * mix * self.scale

    return Waved()


def test_a_small_steep_wave_averages_out_over_a_wide_neighbourhood() -> None:
    given = subject(waved(network()), Linf(0.25))
    x, y, draws = given.problem.x, given.problem.goal, given.draws
    own = given.problem.oracle.look(x, y, margin, Access.GRADIENT, draws)
    lens = Neighbourhood(60, widths(given.problem.threat, x))
    around = lens(given.problem.oracle).look(x, y, margin, Access.GRADIENT, draws)
    true = TorchOracle(network()).look(x, y, margin, Access.GRADIENT, draws)
    assert own.grad is not None and around.grad is not None and true.grad is not None
    near, far = (
        torch.nn.functional.cosine_similarity(one.flatten(1), true.grad.flatten(1)).mean()
        for one in (own.grad, around.grad)
    )
    assert far > near + 0.2
    # it judges the point itself
    assert torch.equal(around.logits, own.logits)


@pytest.mark.parametrize("threat", [Linf(0.2), L2(1.0), L1(5.0)], ids=lambda one: one.norm.name)
def test_a_neighbourhood_is_as_wide_as_the_budget(threat: Threat) -> None:
    x = torch.zeros(1, 1, 28, 28)
    broad, narrow = widths(threat, x)
    assert narrow == broad / 2 and 0.01 <= broad <= 0.15
    noise = broad * torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    if threat.norm.name == "l2":
        assert 1 < float(noise.norm()) / 1.0 < 2


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.0), L1(5.0), L0(3)], ids=lambda one: one.norm.name)
@pytest.mark.parametrize("probe", [guided, wide])
def test_probes_pay_for_every_pass_and_ask_enough(threat: Threat, probe: Any) -> None:
    counting = Counting(network())
    given: Subject = subject(counting, threat, allowance=1.0)
    counting.rows = 0
    seen = probe(given)
    assert given.meter.spent[0] == counting.rows or probe is guided
    assert seen.asked == (0 if threat.norm.name == "l0" else min(N, LEAST))
    nobody = probe(dataclasses.replace(given, survived=torch.zeros(N, dtype=torch.bool)))
    assert nobody.best == 0


def test_the_escalation_is_led_and_pays_for_both_passes() -> None:
    given, found = subject(Alone(network()), Linf(0.3)), dataclasses.replace(CLEAN, guided=Tries(8, {"inner": 8}))
    made = {one.name: one for one in stronger_attacks(given, found, ())}
    led = made["guided by inner"]
    # fifty steps of two passes, a last look, and one that judges
    assert led.most_passes(given, found) == 50 * 2 + 1 + 1
    assert led.promise == 0.95 and not led.dear
    # of a neighbourhood's five passes four are the guide's
    assert made["guided by inner, over a neighbourhood"].most_passes(given, found) == 50 * 5 + 1 + 1
    assert "gradients of a neighbourhood" in made
    other = stronger_attacks(given, dataclasses.replace(found, guided=Tries(8, {"inner": 0})), ())
    assert next(one for one in other if one.name == "guided by inner").dear
