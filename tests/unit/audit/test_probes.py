"""Each probe on networks whose answer is known, and every pass it costs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import ATTACKS, PGD, build
from assay.audit.evidence import gather
from assay.audit.probes.attacks import again, black_box, growth, paths, simple
from assay.audit.probes.determinism import answers
from assay.audit.probes.gradient_accuracy import slopes
from assay.audit.probes.gradient_signal import sight
from assay.audit.probes.minimum_norm import nearest, smallest, twins
from assay.audit.subject import SHARES, CountingOracle, Subject
from assay.core.compose import Transferred
from assay.core.oracle import TorchOracle
from assay.core.threat import L0, L1, L2, Linf, Threat, YCbCr
from tests.support.subjects import CLASSES, Around, Counting, N, network, subject

THREATS = (Linf(0.1), L2(0.5), L1(3.0), L0(3))


def noisy(logits: Tensor) -> Tensor:
    return logits + torch.randn_like(logits)


def flat_image(x: Tensor) -> Tensor:
    return x.detach() + 0 * x


def without_graph(x: Tensor) -> Tensor:
    return x.detach()


def metered(given: Subject) -> tuple[Subject, CountingOracle]:
    meter = CountingOracle(given.problem.oracle)
    return dataclasses.replace(given, problem=dataclasses.replace(given.problem, oracle=meter)), meter


def test_answers_of_a_plain_network() -> None:
    seen = answers(subject(network()))
    assert (seen.n, seen.differ, seen.company, seen.gradients_inside, seen.changes) == (N, 0, 0, 0, False)
    assert not seen.probabilities
    assert seen.flat == 0


def test_answers_of_a_random_network_differ() -> None:
    assert answers(subject(Around(network(), after=noisy))).differ == 1.0


def test_answers_that_hang_on_the_batch() -> None:
    seen = answers(subject(Around(network(), after=lambda logits: logits - logits.mean(0))))
    assert seen.company == 1.0
    assert seen.differ == 0.0


def test_probabilities_and_ties_are_seen() -> None:
    assert answers(subject(Around(network(), after=lambda logits: logits.softmax(1)))).probabilities
    tied = Around(network(), after=lambda logits: (logits == logits.amax(1, keepdim=True)).float() * 2)
    assert answers(subject(tied)).flat == 1.0


class Optimising(nn.Module):
    """Follows its own gradient before it answers, by one of autograd's functions."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            own = x.detach().requires_grad_(True)
            loss = self.inner(own).logsumexp(1).sum()
            if self.how == "grad":
                (grad,) = torch.autograd.grad(loss, own)
            elif self.how == "method":
                loss.backward()
                grad = own.grad
            else:
                torch.autograd.backward(loss)
                grad = own.grad
        return self.inner(x - 0.01 * grad)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["grad", "method", "function"])
def test_gradients_inside_are_counted_and_autograd_is_put_back(how: str) -> None:
    before = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
    assert answers(subject(Optimising(network(), how))).gradients_inside == 1
    assert before == (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


def test_autograd_is_put_back_when_the_network_raises() -> None:
    before = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
    given = subject(network())

    def refuse(x: Tensor) -> Tensor:
        raise ValueError("no")

    broken = dataclasses.replace(
        given, problem=dataclasses.replace(given.problem, oracle=TorchOracle(Around(network(), before=refuse)))
    )
    with pytest.raises(ValueError, match="no"):
        answers(broken)
    assert before == (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


def test_a_network_that_changes_itself_is_seen() -> None:
    module = nn.Sequential(nn.BatchNorm2d(1), network())
    given = subject(module.eval())
    assert not answers(given).changes
    module.train()
    assert answers(given).changes


def test_sight_of_a_plain_network() -> None:
    seen = sight(subject(network()))
    assert seen.zero == {"cross_entropy": 0.0, "margin": 0.0, "dlr": 0.0}
    assert (seen.zero_in_double, seen.agreement, seen.saturated) == (0.0, 1.0, 0.0)
    assert seen.climbed == ("cross_entropy",)
    assert sum(seen.gaps.counts) == N


def test_saturated_logits_blind_the_cross_entropy_alone() -> None:
    seen = sight(subject(Around(network(), after=lambda logits: logits * 1e5)))
    assert seen.zero == {"cross_entropy": 1.0, "margin": 0.0, "dlr": 0.0}
    assert seen.saturated == 1.0


def test_an_image_without_slope_blinds_every_objective_and_a_detached_one_gives_none() -> None:
    blind = sight(subject(Around(network(), before=flat_image)))
    assert set(blind.zero.values()) == {1.0}
    cut = sight(subject(Around(network(), before=without_graph)))
    assert set(cut.zero.values()) == {None}
    assert cut.agreement is None
    assert cut.median_gap > 0


def test_a_network_of_one_type_is_not_asked_in_double() -> None:
    module = Around(network(), before=lambda x: x + torch.zeros((), dtype=torch.float32).expand_as(x).mul(0))
    single = Around(module, before=lambda x: x.float())
    seen = sight(subject(single))
    assert (seen.zero_in_double, seen.agreement) == (None, None)


def test_slopes_of_a_smooth_network_are_true_and_those_of_a_cut_one_are_not() -> None:
    assert (slopes(subject(network())).alignment or 0) > 0.99
    assert slopes(subject(Around(network(), before=flat_image))).alignment == 0.0
    assert slopes(subject(Around(network(), before=without_graph))).alignment is None


def test_the_margin_grows_along_the_gradient() -> None:
    seen = slopes(subject(network()))
    middle = len(seen.places) // 2
    assert seen.places[middle] == 0
    assert seen.along_gradient[middle] == pytest.approx(seen.along_random[middle])
    assert seen.along_gradient[-1] > seen.along_gradient[middle] > seen.along_gradient[0]
    # never further than along the steepest way
    assert seen.along_gradient[-1] > seen.along_random[-1]


def test_noise_around_an_image_is_unsteady() -> None:
    waves = Around(network(), before=lambda x: x + 0.5 * torch.sin(4000 * x))
    assert slopes(subject(waves)).instability > slopes(subject(network())).instability + 0.1


def test_a_linear_network_breaks_at_every_larger_budget() -> None:
    seen = growth(subject(network(), Linf(0.05)))
    assert seen.n == N
    assert list(seen.success) == sorted(seen.success)
    assert (seen.unbounded, seen.chance) == (0.0, 1 / CLASSES)
    assert seen.half_range is not None


def test_a_blinded_attack_fails_even_without_a_budget() -> None:
    seen = growth(subject(Around(network(), after=lambda logits: logits * 1e6), Linf(0.05)))
    assert (seen.unbounded or 0) > 0.5


def test_growth_where_it_cannot_be_asked() -> None:
    assert growth(subject(network(), L0(3))).success == ()
    assert growth(subject(network(), methods=(build("square"),))).success == ()
    assert growth(subject(Around(network(), before=without_graph))).success == ()
    endless = growth(subject(network(), Linf(0.1, box=False)))
    assert endless.unbounded is None
    assert endless.half_range is None
    assert growth(subject(network(), L2(0.5))).half_range is None
    # no multiple of the budget goes beyond the box
    assert growth(subject(network(), Linf(0.4))).budgets == (0.5, 1.0, 2.0)


def test_paths_find_what_the_cross_entropy_cannot_see() -> None:
    seen = paths(subject(Around(network(), after=lambda logits: logits * 1e6), Linf(0.3)))
    assert seen.broken["margin"] > seen.broken["cross_entropy"]
    assert all(len(values) == 21 for values in seen.losses.values())
    assert min(seen.losses["margin"]) == 0
    assert max(seen.losses["margin"]) == 1


def test_single_steps_break_a_linear_network() -> None:
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    seen = simple(subject(linear, Linf(0.5)))
    assert seen.broken["fgsm"] == N
    assert simple(subject(linear, L0(2))).broken.keys() == {"noise"}


@pytest.mark.parametrize(
    ("threat", "broken"), [(Linf(0.4), N), (L2(3.0), N), (L1(20.0), N), (L0(36), N), (L1(1e-3), 0)]
)
def test_a_minimum_norm_attack_in_every_norm(threat: Threat, broken: int) -> None:
    seen = nearest(subject(network(), threat))
    assert seen.asked == N
    assert list(seen.broken.values()) == [broken]


def test_where_there_is_no_minimum_norm_attack_nothing_is_asked() -> None:
    assert smallest("patch") is None


def test_black_boxes_by_norm_and_by_twin() -> None:
    assert black_box(subject(network())).broken.keys() == {"square"}
    assert black_box(subject(network(), thorough=True, allowance=1.0)).broken.keys() == {"square", "hop-skip-jump"}
    assert black_box(subject(network(), L0(3))).broken == {}
    twin = TorchOracle(network())
    # the twin is the model itself: what breaks one breaks the other
    assert black_box(subject(network(), Linf(0.4), twin=twin)).broken["transfer"] >= N - 1


def test_more_steps_find_what_one_step_missed() -> None:
    given = subject(network(), Linf(0.4), methods=(PGD(3),))
    assert again(given).broken["again"] >= N - 1
    nobody = dataclasses.replace(given, survived=torch.zeros(N, dtype=torch.bool))
    assert again(nobody).asked == 0
    elsewhere = dataclasses.replace(given, methods=(Transferred(PGD(3), TorchOracle(network())),))
    assert again(elsewhere).broken == {}


def test_twins_at_equal_distances() -> None:
    assert twins(subject(network())) is None
    same = twins(subject(network(), twin=TorchOracle(network())))
    assert same is not None
    assert same.model == same.twin > 0
    scaled = twins(subject(Around(network(), before=lambda x: (x - 0.5) / 2 + 0.5), twin=TorchOracle(network())))
    assert scaled is not None
    assert math.isfinite(scaled.model)


@pytest.mark.parametrize("probe", [answers, sight, slopes, simple, nearest, paths, black_box, growth, again])
def test_every_pass_is_counted(probe: Any) -> None:
    counting = Counting(network())
    given, meter = metered(subject(counting, Linf(0.02)))
    counting.rows = 0
    probe(given)
    # the look in double goes through a copy
    assert meter.spent[0] == counting.rows


@pytest.mark.parametrize("twin", [None, TorchOracle(network())], ids=["alone", "twin"])
def test_a_probe_spends_its_share(twin: TorchOracle | None) -> None:
    # enough for the survivors that the probes of other slopes ask in any case
    allowance = 700.0 * N
    given = subject(network(), Linf(1e-4), methods=(build("pgd", steps=10),), allowance=allowance, twin=twin)
    shared = allowance / (1 if twin is not None else 1 - SHARES["twins"])
    spent = gather(given).passes
    assert {name: passes for name, passes in spent.items() if passes > SHARES[name] * shared} == {}
    assert sum(spent.values()) <= allowance


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm.name)
def test_evidence_is_gathered_in_every_norm_with_and_without_survivors(threat: Threat) -> None:
    name = "sigma-zero" if threat.norm.name == "l0" else "pgd"
    given = subject(network(), threat, methods=(build(name, steps=10),))
    evidence = gather(given)
    assert evidence.passes.keys() >= {"answers", "sight", "planted"}
    assert evidence.planted is not None
    assert evidence.planted.n > 0
    nobody = gather(dataclasses.replace(given, survived=torch.zeros(N, dtype=torch.bool)))
    assert nobody.survived == 0
    assert not nobody.simple.broken


def test_evidence_is_gathered_about_changes_of_y() -> None:
    evidence = gather(subject(network(3), YCbCr(0.1), channels=3, methods=(build("pgd", steps=10),)))
    assert evidence.passes.keys() >= {"answers", "sight", "planted"}
    assert evidence.planted is not None and evidence.planted.n > 0


CASES = [(name, norm) for name, entry in ATTACKS.items() for norm in entry.norms if norm not in ("ycbcr", "patch")]


def test_an_objective_of_several_numbers_is_not_climbed_by_pgd() -> None:
    assert growth(subject(network(), methods=(build("deepfool"),))).success


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_evidence_can_be_gathered_about_every_attack(name: str, norm: str) -> None:
    threat = next(one for one in THREATS if one.norm.name == norm)
    evidence = gather(subject(network(), threat, methods=(build(name),), allowance=N * 20.0))
    assert evidence.n == N
    # a few images are always asked, however dear the attack
    assert evidence.passes["answers"] <= 3 * N
