"""The promises every attack keeps, one function each; a function raises AssertionError for an attack that does not."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from assay.core.compose import Method, Through, run
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import Oracle, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps, SearchResult
from assay.core.tensors import take
from assay.core.threat import threat_in
from tests.support.bench import WHOLE, Case, Linear, Remembering, size_of, unboxed


def same(one: Tensor, other: Tensor, why: str, *, exact: bool = True) -> None:
    """Fail unless two tensors are equal: bit by bit, or up to floating point."""
    close = torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert close, f"{why}: they differ by {float((one.double() - other.double()).abs().max()):.3g}"


def in_linf(case: Case) -> bool:
    return case.threat.norm.name == "linf"


def check_budget(attack: Method, case: Case) -> None:
    """The image returned lies inside the budget, and its size is what it is said to be."""
    _inside_budget(case.once(attack), case)


def _inside_budget(found: SearchResult, case: Case) -> None:
    size = size_of(case.threat, found.x, case.x)
    scale = case.threat.scale
    rounding = 1.1e-6 / min(1.0, float(torch.as_tensor(scale).min()))
    over = size - torch.as_tensor(case.threat.eps) * (1 + 1e-5)
    assert bool((over <= rounding).all()), f"outside the budget by {float(over.max()):.3g}"
    same(found.size.double(), size, "the size reported is not the size", exact=False)


def check_box(attack: Method, case: Case) -> None:
    """The image returned is an image."""
    low, high = case.threat.box
    x = case.once(attack).x
    assert bool(((x >= low) & (x <= high)).all()), f"pixels from {float(x.min())} to {float(x.max())}"
    assert x.shape == case.x.shape
    assert x.dtype == case.x.dtype


def check_result(found: SearchResult, case: Case) -> None:
    """A result lies inside budget and box, and is what the model says of it."""
    low, high = case.threat.box
    assert bool(((found.x >= low) & (found.x <= high)).all()), "outside the box"
    size = size_of(case.threat, found.x, case.x)
    over = size - torch.as_tensor(case.threat.eps) * (1 + 1e-5)
    assert bool((over <= 1.1e-6).all()), f"outside the budget by {float(over.max()):.3g}"
    with torch.no_grad():
        logits = case.model(found.x)
    same(found.logits, logits.to(found.logits.dtype), "logits", exact=False)
    clear = case.goal.gap(logits).abs() > 1e-4
    assert torch.equal(found.success[clear], case.goal.reached(logits)[clear]), "success is not what the model says"


def check_honest(attack: Method, case: Case) -> None:
    """What is said about the image returned is what the model says, asked again."""
    for keeps in (Keeps.LAST, Keeps.FIRST, Keeps.WORST, Keeps.SMALLEST):
        found = case.once(attack, keeps)
        with torch.no_grad():
            logits = case.model(found.x)
        same(found.logits, logits.to(found.logits.dtype), f"logits, {keeps}", exact=False)
        inside = size_of(case.threat, found.x, case.x) <= torch.as_tensor(case.threat.eps) * (1 + 1e-5) + 1e-5
        clear = case.goal.gap(logits).abs() > 1e-4
        honest = case.goal.reached(logits) & inside
        assert torch.equal(found.success[clear], honest[clear]), f"success is not what the model says, {keeps}"
        same(found.gap, case.goal.gap(logits).to(found.gap.dtype), f"gap, {keeps}", exact=False)


def check_inputs_unchanged(attack: Method, case: Case) -> None:
    """The caller's tensors are as they were."""
    x, goal = case.x.clone(), [v.clone() for v in vars(case.goal).values() if isinstance(v, Tensor)]
    case.run(attack)
    same(case.x, x, "the images changed")
    for before, now in zip(goal, (v for v in vars(case.goal).values() if isinstance(v, Tensor)), strict=True):
        same(now, before, "the goal changed")


def check_zero_budget(attack: Method, case: Case) -> None:
    """Without a budget the result is the clean image and the clean prediction, exactly."""
    for eps in (0.0, torch.zeros(len(case.x))):
        here = case.but(threat=case.threat.at(eps))
        found = here.run(attack)
        same(found.x, case.x, "eps = 0 moved the image")
        same(found.size, torch.zeros_like(found.size), "eps = 0 has a size")
        with torch.no_grad():
            logits = case.model(case.x)
        same(found.logits, logits, "eps = 0 changed the logits", exact=False)
        same(found.logits.argmax(1), logits.argmax(1), "eps = 0 changed the predictions")
        assert torch.equal(found.success, case.goal.reached(logits)), "eps = 0 changed the verdict"


def check_subsets(attack: Method, case: Case) -> None:
    """A sample's result and cost do not depend on its chunk, its place in it, and its neighbours."""
    n = len(case.x)
    whole = case.once(attack)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5))
    for part in (order[:1], order[1:4], torch.arange(n).flip(0)):
        problem, draws = take(case.problem(), part), case.draws.take(part)
        _same_found(again(attack, problem, draws), take(whole, part), case)


def check_subsets_of_every_keeping(attack: Method, case: Case) -> None:
    """The same where samples finish at different times."""
    part = torch.arange(0, len(case.x), 2)
    for keeps in (Keeps.LAST, Keeps.FIRST, Keeps.WORST, Keeps.SMALLEST):
        whole = case.once(attack, keeps)
        some = again(attack, take(case.problem(), part), case.draws.take(part), keeps)
        _same_found(some, take(whole, part), case)


def again(attack: Method, problem: Problem, draws: Draws, keeps: Keeps | None = None) -> SearchResult:
    return run(attack, problem, draws, keeps=keeps)


def _same_found(one: SearchResult, other: SearchResult, case: Case) -> None:
    exact = case.exact and in_linf(case)
    same(one.x, other.x, "images depend on the chunk", exact=exact)
    for name in ("success", "forwards", "backwards", "queries", "looks"):
        same(getattr(one, name), getattr(other, name), f"{name} depends on the chunk")
    same(one.logits, other.logits, "logits depend on the chunk", exact=False)


def check_deterministic(attack: Method, case: Case) -> None:
    """The same seed gives the same everything, whatever torch's own generator did in between."""
    one = case.once(attack)
    torch.rand(7)
    for first, second in zip(one, case.run(attack), strict=True):
        assert torch.equal(first.nan_to_num(), second.nan_to_num()), "the same seed gave another result"


def behind_lenses(attack: Method, oracle: Oracle) -> tuple[Method, Remembering]:
    """Return the attack without its lenses, and what it sees through them, remembered."""
    while isinstance(attack, Through):
        attack, oracle = attack.attack, attack.lens(oracle)
    return attack, Remembering(oracle)


def check_counts(attack: Method, case: Case) -> None:
    """The counts are those of a model that counts its rows itself, and per sample those of who was asked."""
    model = case.model
    for keeps in (Keeps.LAST, Keeps.FIRST):
        model.forwards = model.backwards = 0
        seen, oracle = behind_lenses(attack, TorchOracle(model, 5))
        found = case.run(seen, keeps, oracle)
        assert int(found.forwards.sum()) == model.forwards, f"{int(found.forwards.sum())} forwards, {model.forwards}"
        assert int(found.backwards.sum()) == model.backwards, f"{int(found.backwards.sum())}, {model.backwards}"
        asked = [who for who, _, _ in oracle.looks for who in who]
        each = torch.tensor([asked.count(i) for i in case.draws.ids.tolist()])
        same(found.looks, each, "looks")
        # a lens may ask the model several times to answer once
        same(found.queries, found.forwards if isinstance(attack, Through) else each, "queries")


def check_finished_rows(attack: Method, case: Case) -> None:
    """With FIRST a sample that is broken is not asked about again, and its result does not change."""
    seen_so, oracle = behind_lenses(attack, TorchOracle(case.model))
    found = case.run(seen_so, Keeps.FIRST, oracle)
    broken: dict[int, Tensor] = {}
    rows = {who: i for i, who in enumerate(case.draws.ids.tolist())}
    for asked, points, seen in oracle.looks:
        assert not broken.keys() & set(asked), "a broken sample was asked about again"
        for j, who in enumerate(asked):
            inside = case.threat.allows(case.threat.size(points[j : j + 1], case.x[rows[who]][None]))
            inside = inside[rows[who] if inside.numel() > 1 else 0]
            inside &= case.threat.in_box(points[j : j + 1])[0]
            if bool(seen.reached[j]) and bool(inside):
                broken[who] = points[j]
    for who, i in rows.items():
        assert bool(found.success[i]) == (who in broken), "a success was overlooked or made up"
        if who in broken:
            same(found.x[i], broken[who], "not the first success")


def check_micro_batch(attack: Method, case: Case) -> None:
    """How many rows go through the model at once changes nothing."""
    # what an oracle does with its batches is tested with it; here they may not divide the rows
    _same_found(case.but(batch=5).run(attack), case.once(attack), case)


def check_budget_per_sample(attack: Method, case: Case) -> None:
    """One budget for all and the same budget for each are the same."""
    eps = torch.full((len(case.x),), float(case.threat.eps))
    each = case.but(threat=case.threat.at(eps)).run(attack)
    one = case.once(attack)
    same(each.x, one.x, "a budget per sample gives other images", exact=False)
    same(each.success, one.success, "a budget per sample gives another verdict")
    # and every sample has its own
    eps = eps * torch.linspace(0, 1, len(eps))
    here = case.but(threat=case.threat.at(eps.floor() if case.threat.norm.name in WHOLE else eps))
    check_budget(attack, here)
    # its neighbours' budgets are nothing to a sample
    last = torch.tensor([len(eps) - 1])
    alone = again(attack, take(here.problem(), last), case.draws.take(last))
    same(alone.x, here.once(attack).x[last], "a sample feels its neighbours' budgets", exact=False)


def check_budget_per_channel(attack: Method, case: Case) -> None:
    """A budget per channel is kept in every channel, and is the same attack in other units."""
    channels = case.x.shape[1]
    scale = torch.linspace(0.5, 2, channels).view(-1, 1, 1)
    here = case.but(threat=dataclasses.replace(case.threat, scale=scale))
    check_budget(attack, here)
    check_box(attack, here)
    if in_linf(case):
        worst = (here.once(attack).x - case.x).abs().amax((0, 2, 3))
        assert bool((worst <= float(case.threat.eps) * scale.flatten() + 1e-6).all()), f"a channel moved by {worst}"


def check_units(attack: Method, case: Case) -> None:
    """An attack in the model's normalised units is the same attack on normalised images."""
    std = torch.linspace(0.2, 0.4, case.x.shape[1]).view(-1, 1, 1)
    model = case.model

    class OnNormalised(torch.nn.Module):
        def forward(self, u: Tensor) -> Tensor:
            return model(u * std)

    eps = float(case.threat.eps) if case.threat.norm.name in WHOLE else 3 * float(case.threat.eps)
    free = unboxed(case.threat).at(eps)
    pixels = case.but(threat=dataclasses.replace(free, scale=std)).run(attack)
    units = case.but(model=OnNormalised(), x=case.x / std, threat=free).run(attack)
    same(pixels.x, units.x * std, "normalised units give other images", exact=False)
    same(pixels.success, units.success, "normalised units give another verdict")


def check_grid(attack: Method, case: Case) -> None:
    """With grid=255 every point that is judged is an 8-bit image inside the budget."""
    eps = float(case.threat.eps)
    budgets = (round(eps * 255) / 255, eps, 2.5 / 255) if in_linf(case) else (eps,)
    for budget in budgets:
        here = case.but(threat=dataclasses.replace(case.threat, grid=255).at(budget))
        seen_so, oracle = behind_lenses(attack, TorchOracle(case.model))
        found = here.run(seen_so, oracle=oracle)
        for points in (*(points for _, points, _ in oracle.looks), found.x):
            same((points * 255).round() / 255, points, "a point off the grid was judged")
        _inside_budget(found, here)


def check_grid_costs_no_success(attack: Method, case: Case) -> None:
    """The grid moves a point by half a level at most: at 15 levels few verdicts change."""
    # the last point of an attack that looks for the smallest change is at the boundary, where half a level decides
    keeps = Keeps.SMALLEST if attack.keeps is Keeps.SMALLEST else Keeps.LAST
    free = case.but(threat=case.threat.at(15 / 255)).run(attack, keeps)
    here = case.but(threat=dataclasses.replace(case.threat, grid=255).at(15 / 255)).run(attack, keeps)
    change = (here.x - free.x).abs().max() * 255
    assert change <= 1 or len(here.x) == 1 or int((here.success ^ free.success).sum()) <= 1, f"moved {change} levels"


def _linear_distance(norm: str, difference: Tensor, lead: Tensor, x: Tensor) -> Tensor:
    if norm not in WHOLE:
        shades = difference.view(x.shape[1:]).sum(0)
        dual = {
            "linf": difference.abs().sum(),
            "l2": difference.norm(),
            "l1": difference.abs().max(),
            "ycbcr": shades.abs().sum(),
        }[norm]
        return lead.abs() / dual
    # the values that gain most within the box first
    down = (difference * lead[:, None]) > 0
    room = torch.where(down, x.flatten(1), 1 - x.flatten(1))
    if norm == "patch":
        return patch_distance((difference.abs() * room).view_as(x).sum(1), lead)
    gains = (difference.abs() * room).sort(1, descending=True).values.cumsum(1)
    return (gains <= lead.abs()[:, None]).sum(1) + 1.0


def patch_distance(gains: Tensor, lead: Tensor) -> Tensor:
    # the smallest square whose pixels gain more together than the lead
    found = torch.full_like(lead, torch.inf)
    for side in range(max(gains.shape[1:]), 0, -1):
        totals = gains
        for axis in (1, 2):
            totals = totals.unfold(axis, min(side, gains.shape[axis]), 1).sum(-1)
        found = torch.where(totals.flatten(1).amax(1) > lead.abs(), float(side), found)
    return found


def check_strength(attack: Method, norm: str, share: float = 1.0) -> None:
    """On a linear model of two classes the attack breaks at least what the closed form breaks at `share` of eps."""
    maker = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(60, 2, generator=maker), torch.zeros(2)
    model = Linear(weight, bias)
    x = torch.rand(100, 3, 4, 5, generator=maker)
    difference = weight[:, 0] - weight[:, 1]
    lead = x.flatten(1) @ difference
    y = (lead < 0).long()
    distance = _linear_distance(norm, difference, lead, x)
    eps = float(distance.quantile(0.7, interpolation="lower"))
    threat = threat_in(norm, eps=eps)
    # without a box one value of endless height breaks anything
    case = Case(model, x, Untargeted(y), threat if norm in WHOLE else unboxed(threat))
    must = distance < 0.98 * share * eps
    cannot = distance > 1.02 * eps
    success = case.run(attack).success
    assert int(must.sum()) >= 5, "the check would be empty"
    assert bool(success[must].all()), f"{int((~success[must]).sum())} of {int(must.sum())} easy samples stand"
    assert not bool(success[cannot].any()), "broken although no point of the ball breaks it"


# every check that takes an attack and a case, for the table and for the broken attacks
CHECKS = [
    check_budget,
    check_box,
    check_honest,
    check_inputs_unchanged,
    check_zero_budget,
    check_subsets,
    check_subsets_of_every_keeping,
    check_deterministic,
    check_counts,
    check_finished_rows,
    check_micro_batch,
    check_budget_per_sample,
    check_budget_per_channel,
    check_units,
    check_grid,
]

# those that another goal could break
OF_GOALS = [
    check_budget,
    check_box,
    check_honest,
    check_inputs_unchanged,
    check_zero_budget,
    check_subsets,
    check_counts,
    check_finished_rows,
    check_grid,
]
