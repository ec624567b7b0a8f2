"""The families of attacks that trust rests on, and how closely each looks at what an evaluation left standing.

A family that looks at m survivors, drawn at random, and breaks none, bounds what it could still break among all of
them. How many it looks at follows from the resolution that the audit is to reach and from the passes that it may spend.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from assay.attacks import ATTACKS, build
from assay.audit.escalate import AT_ONCE, Refutation, attempted, nothing_broken
from assay.audit.evidence import Evidence
from assay.audit.probes.minimum_norm import smallest
from assay.audit.progress import PassLimit
from assay.audit.stronger_attacks import LOOKS, StrongerAttack
from assay.audit.subject import (
    BLACK_BOX,
    FAMILIES,
    GRADIENT,
    MINIMUM_NORM,
    CountingOracle,
    Subject,
    lengthened,
    passes_of,
)
from assay.audit.verdict_rule import refuting
from assay.core.compose import Method, Through
from assay.core.lenses import Expectation
from assay.core.oracle import Access
from assay.evaluation.records.verdicts import Attempt, FamilyLook
from assay.statistics import fewest_asked, hypergeometric_most

STEPS, TARGETS, LONGER, QUERIES, LONGEST, CLOSEST = 20, 3, 2, 100, 8, 10
"""Steps on each of so many targets; how often the 60 steps of the minimum-norm attack; queries; how many times as long
looks are at most, where passes are left; and how many of the survivors nearest to falling meet a long attack."""


def looking(subject: Subject, times: int = 1, *, random: bool = False) -> dict[str, StrongerAttack]:
    """Return the attack that each family looks with, `times` as long; a norm may have none of a family."""
    norm, found = subject.norm, {}
    sees = subject.gives is Access.GRADIENT
    if sees and norm in ATTACKS["apgd-t"].norms:
        climb: Method = build("apgd-t", steps=STEPS * times, targets=TARGETS)
        found[GRADIENT] = Through(Expectation(LOOKS), climb) if random else climb
    if sees and (short := smallest(norm)) is not None:
        found[MINIMUM_NORM] = lengthened(short, LONGER * times)
    if norm in ATTACKS["square"].norms and subject.gives is not Access.LABELS:
        found[BLACK_BOX] = build("square", queries=QUERIES * times)
    elif norm in ATTACKS["hop-skip-jump"].norms:
        found[BLACK_BOX] = build("hop-skip-jump", queries=QUERIES * times)
    elif norm in ATTACKS["one-pixel"].norms:
        found[BLACK_BOX] = build("one-pixel", population=QUERIES // 5, generations=5 * times)
    why = "asked of every number: what one kind of attack leaves, another may break"
    return {name: StrongerAttack(f"{name} look", why, method, 0.0) for name, method in found.items()}


def longest(subject: Subject) -> StrongerAttack | None:
    """Return what the survivors are tried with that came nearest to breaking; None where the norm has none.

    That is the cascade, and where the evaluation was as long as that already, a long minimum-norm attack.
    """
    if subject.norm not in ATTACKS["cascade"].norms:
        return None
    whole, own = build("cascade"), subject.evaluation
    costs = [0 if one is None else passes_of(one, subject.norm, subject.classes) for one in (own, whole)]
    short = smallest(subject.norm)
    if costs[0] >= costs[1] and short is not None:
        return StrongerAttack("nearest ones, minimum norm", _NEAREST, lengthened(short, LONGEST), 0.0)
    return StrongerAttack("nearest ones, cascade", _NEAREST, whole, 0.0)


_NEAREST = "what came nearest to falling falls first"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many survivors each family looks at, and how many `times` as long as the shortest look."""

    asked: dict[str, int]
    times: int = 1


def plan(costs: Mapping[str, float], here: int, need: int, allowance: float) -> Plan:
    """Return the plan for `here` survivors that can be asked, at `costs` passes for each family's shortest look.

    Every family looks at the `need` that the resolution takes, whatever it costs: the coarsest of them counts, so equal
    looks bound the most. Gradients find the most per pass, and look at all. What is left of the `allowance` goes to
    more survivors for the others, and where all are looked at, into longer looks.
    """
    asked = {name: here if name == GRADIENT else min(need, here) for name in costs}
    each = sum(costs.values())
    left = allowance - sum(cost * asked[name] for name, cost in costs.items())
    for name, cost in costs.items():
        rest = here - asked[name]
        more = min(rest, int(max(0.0, left) / cost)) if math.isfinite(left) else rest
        asked[name] += more
        left -= more * cost
    whole = max(1.0, here * each)
    times = min(LONGEST, int(min(allowance / whole, LONGEST)))
    return Plan(asked, max(1, times) if all(count == here for count in asked.values()) else 1)


@dataclasses.dataclass(frozen=True)
class Looks:
    """What the looks at one number broke, how many each family asked and broke, and what breaking none cost.

    Those of the others are with the attempts of `found`.
    """

    found: Refutation
    made: tuple[Attempt, ...] = ()
    passes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def after(self, one: StrongerAttack, family: str, seen: Refutation, asked: int) -> Looks:
        """Return this and what `one` broke of the `asked`; what was broken before counts for the attack before."""
        told = Attempt(one.name, one.why, asked, len(seen.at), 0, family=family)
        made = (*self.made, told) if asked and family else self.made
        new = seen.taken(~torch.isin(seen.at, self.found.at))
        if not len(new.at):
            return Looks(self.found, made, {**self.passes, one.name: seen.passes})
        attempt = dataclasses.replace(told, broken=len(new.at), passes=seen.passes)
        return Looks(self.found.joined(dataclasses.replace(new, attempts=(attempt,))), made, self.passes)


@dataclasses.dataclass
class Looker:
    """Looks at the numbers of a group, that of the largest budget first.

    What withstood a look in a larger ball withstands it in a smaller one: it is not asked again. `clear` remembers
    that, by family, for the images of the subject, and `gaps` how near to its goal the gradient came.
    """

    evidence: Evidence
    clear: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    gaps: dict[int, float] = dataclasses.field(default_factory=dict)

    def look(self, subject: Subject, need: int, allowance: float, limit: PassLimit) -> Looks:
        """Look at the survivors of a number, of which `need` are enough for its resolution.

        Where a family breaks one, it looks at all. Where enough broke to refute the number, nothing more is asked.
        """
        oracle = CountingOracle(subject.meter.oracle, hear=limit.spend)
        subject = dataclasses.replace(subject, problem=dataclasses.replace(subject.problem, oracle=oracle))
        random, here = self.evidence.answers.differ > 0, int(subject.survived.sum())
        shortest = looking(subject, random=random)
        costs = {name: float(one.most_passes(subject, self.evidence)) for name, one in shortest.items()}
        deep = None if random else longest(subject)
        if deep is not None:
            allowance -= min(CLOSEST, here) * deep.most_passes(subject, self.evidence)
        planned = plan(costs, here, need, allowance)
        seen = Looks(nothing_broken(subject))
        for name, one in looking(subject, planned.times, random=random).items():
            if len(seen.found.at) >= refuting(here):
                break
            seen = seen.after(one, name, *self._tried(name, one, subject, planned.asked[name], limit))
            if name == GRADIENT and deep is not None and len(seen.found.at) < refuting(here):
                seen = seen.after(deep, "", *self._closest(deep, subject, seen.found.at, limit))
        return seen

    def _tried(
        self, name: str, one: StrongerAttack, subject: Subject, count: int, limit: PassLimit
    ) -> tuple[Refutation, int]:
        """Return what an attack breaks, and how many survivors met it: none where it cannot be made on this model."""
        clear = self.clear.setdefault(name, torch.zeros_like(subject.survived))
        order, found = subject.order(name), nothing_broken(subject)
        limit.tried = one.name
        for part in (order[:count], order[count:]):
            at = part[~clear[part]].sort().values
            for first in range(0, len(at), AT_ONCE):
                some = at[first : first + AT_ONCE]
                seen = attempted(one, subject.taken(some), some, self.evidence, limit, self._near)
                found = found.joined(seen)
                if seen.attempts[0].why != one.why:
                    return found, 0
                clear[some[~torch.isin(some, seen.at)]] = True
            if not len(found.at):
                return found, count
        return found, len(order)

    def _near(self, at: Tensor, gaps: Tensor) -> None:
        self.gaps.update(zip(at.tolist(), gaps.tolist(), strict=True))

    def _closest(
        self, one: StrongerAttack, subject: Subject, broken: Tensor, limit: PassLimit
    ) -> tuple[Refutation, int]:
        """Try a long attack on the survivors that the gradient came nearest to breaking: those fall first."""
        left = [i for i in subject.survived.nonzero().squeeze(1).tolist() if i not in broken and i in self.gaps]
        chosen = sorted(left, key=lambda i: self.gaps[i], reverse=True)[:CLOSEST]
        at = torch.tensor(sorted(chosen), dtype=torch.int64, device=subject.survived.device)
        if not chosen:
            return nothing_broken(subject), 0
        limit.tried = one.name
        return attempted(one, subject.taken(at), at, self.evidence, limit), len(chosen)


def family_looks(made: Iterable[Attempt], population: int, n: int) -> tuple[FamilyLook, ...]:
    """Return what each family says of `population` open survivors of `n` images, from all that was tried in it.

    An attack that broke some counts by itself, the worst first; of those that broke none, the one that looked at the
    most. Attempts with other families are left out.
    """
    told = []
    for family in FAMILIES:
        each = [_bounded(one, population, n) for one in made if one.family == family and one.asked]
        hits = [one for one in each if one.broken]
        best = min(each, key=lambda one: one.bound, default=None)
        worst = max(hits, key=lambda one: one.bound, default=best)
        if worst is not None:
            told.append(worst)
    return tuple(told)


def _bounded(one: Attempt, population: int, n: int) -> FamilyLook:
    asked = min(one.asked, population)
    broken = min(one.broken, asked)
    most = hypergeometric_most(population, asked, broken)
    return FamilyLook(one.family, one.name, population, asked, broken, most / n)


def of_evidence(evidence: Evidence) -> list[Attempt]:
    """Return what the probes of the evidence tried on survivors, each in its family."""
    seen = (
        (GRADIENT, evidence.paths.asked, evidence.paths.broken),
        (GRADIENT, evidence.guided.asked, evidence.guided.broken),
        (GRADIENT, evidence.wide.asked, evidence.wide.broken),
        (MINIMUM_NORM, evidence.nearest.asked, evidence.nearest.broken),
        (BLACK_BOX, evidence.black_box.asked, evidence.black_box.broken),
    )
    # which images a probe broke is not kept: those of several tries may be the same ones
    return [
        Attempt(family, "", asked, max(broken.values(), default=0), 0, family=family)
        for family, asked, broken in seen
        if asked and broken
    ]


def needed(population: int, n: int, resolution: float) -> int:
    """Return how many of a `population` of survivors a family has to look at for a `resolution` in shares of `n`."""
    return fewest_asked(population, min(population, int(resolution * n + 1e-9)))


__all__ = ["FAMILIES", "Looker", "Looks", "Plan", "family_looks", "looking", "needed", "of_evidence", "plan"]
