"""The escalation: what a check suspects, stronger attacks try to prove; every image is judged by the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence, Set

import torch
from torch import Tensor

from assay.audit.checks import examine
from assay.audit.evidence import Evidence
from assay.audit.progress import PassLimit
from assay.audit.stronger_attacks import JUDGES, StrongerAttack, follows_gradients, stronger_attacks
from assay.audit.subject import CountingOracle, Subject, family_of
from assay.audit.verdict_rule import refuting
from assay.core.compose import run
from assay.core.errors import AssayError
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.search import Keeps
from assay.evaluation.records.verdicts import Attempt, Finding
from assay.models.remote.ledger import QueriesSpent

FEW, AT_ONCE = 12, 64
"""Survivors that a dear attack is tried on first, and the most that one run of an attack takes: what a run has found
is kept when the next one is interrupted."""

SMALLER = "what broke it inside a smaller ball"


@dataclasses.dataclass(frozen=True)
class Refutation:
    """What the escalation broke: positions in the subject, the images, what the model calls them, and each attempt.

    `stopped` says that it was interrupted.
    """

    at: Tensor
    images: Tensor
    classes: Tensor
    attempts: tuple[Attempt, ...] = ()
    stopped: bool = False

    @property
    def passes(self) -> int:
        """What the attempts cost."""
        return sum(one.passes for one in self.attempts)

    def taken(self, keep: Tensor) -> Refutation:
        """Return some of what is broken, the attempts left out."""
        return Refutation(self.at[keep], self.images[keep], self.classes[keep])

    def inherited(self, keep: Tensor) -> Refutation:
        """Return some of what is broken inside a smaller ball, as what is broken inside a larger one."""
        kept = self.taken(keep)
        found = len(kept.at)
        smaller = Attempt(SMALLER, "a larger ball holds the smaller one", found, found, 0)
        return dataclasses.replace(kept, attempts=(smaller,)) if found else kept

    def joined(self, other: Refutation) -> Refutation:
        """Return both, attempts of one name as one; no image may be in both."""
        attempts: dict[str, Attempt] = {}
        for one in (*self.attempts, *other.attempts):
            before = attempts.get(one.name)
            # the survivors of one attack may meet it in several runs
            added = {name: getattr(one, name) + (getattr(before, name) if before else 0) for name in _COUNTS}
            attempts[one.name] = dataclasses.replace(one, **added)
        tensors = zip((self.at, self.images, self.classes), (other.at, other.images, other.classes), strict=True)
        at, images, classes = (torch.cat(pair) for pair in tensors)
        return Refutation(at, images, classes, tuple(attempts.values()), self.stopped or other.stopped)


def nothing_broken(subject: Subject) -> Refutation:
    """Return what is broken before anything is tried."""
    none = torch.zeros(0, dtype=torch.int64, device=subject.survived.device)
    return Refutation(none, subject.problem.x[:0], none)


def escalate(
    subject: Subject,
    evidence: Evidence,
    *,
    long: bool = False,
    findings: Sequence[Finding] | None = None,
    limit: PassLimit | None = None,
    done: Set[str] = frozenset(),
) -> Refutation:
    """Try every attack that may help on what is left of the survivors, what promises the most per pass first.

    `long` adds the slow ones, and spares none. `findings` are those of the evidence, where they are known. Survivors
    that the rest of the `limit` does not pay for are not asked, and each attempt says how many they were. Attacks that
    are `done` are left out. An interrupt (Ctrl-C) ends it: what is broken so far is returned, as `stopped`.
    """
    findings = examine(evidence) if findings is None else findings
    limit = PassLimit() if limit is None else limit
    subject = dataclasses.replace(
        subject,
        problem=dataclasses.replace(subject.problem, oracle=CountingOracle(subject.meter.oracle, hear=limit.spend)),
    )
    left = subject.survived.nonzero().squeeze(1)
    broken, asked = nothing_broken(subject), len(left)
    sighted = follows_gradients(evidence, findings)
    attacks = [one for one in stronger_attacks(subject, evidence, findings, long=long) if one.name not in done]
    for place, one in enumerate(attacks):
        if not len(left):
            break
        if one.blind and not long and sighted and len(broken.at) >= refuting(asked):
            # what follows true gradients has refuted the number: attacks with less access are unlikely to break more
            continue
        spent = limit.spent
        try:
            for part in _tried(one, subject, left, evidence, limit=limit, long=long):
                broken = broken.joined(part)
        except KeyboardInterrupt:
            return _stopped(broken, attacks[place:], left, limit.spent - spent)
        left = left[~torch.isin(left, broken.at)]
    return broken


def _stopped(broken: Refutation, attacks: Sequence[StrongerAttack], left: Tensor, spent: int) -> Refutation:
    # of the attack that was interrupted, some survivors may have met it, and some passes were for nothing
    met = next((one for one in broken.attempts if one.name == attacks[0].name), Attempt("", "", 0, 0, 0))
    still = len(left[~torch.isin(left, broken.at)])
    unmade = [
        Attempt(attacks[0].name, attacks[0].why, 0, 0, spent - met.passes, len(left) - met.asked),
        *(Attempt(one.name, one.why, 0, 0, 0, still) for one in attacks[1:]),
    ]
    nothing = broken.taken(broken.at < 0)
    return broken.joined(dataclasses.replace(nothing, attempts=tuple(unmade), stopped=True))


_COUNTS = ("asked", "broken", "passes", "skipped")


def _tried(
    one: StrongerAttack, subject: Subject, left: Tensor, evidence: Evidence, *, limit: PassLimit, long: bool
) -> Iterator[Refutation]:
    """Yield what an attack breaks, some survivors at a time, as far as the limit pays."""
    few = (one.dear or one.blind) and not long
    meant, asked, broken = left[:FEW] if few else left, 0, 0
    cost = one.most_passes(subject, evidence)
    limit.tried = one.name
    while asked < len(meant):
        count = limit.pays(cost, min(AT_ONCE, len(meant) - asked))
        if not count:
            skipped = Attempt(one.name, one.why, 0, 0, 0, len(meant) - asked)
            yield dataclasses.replace(nothing_broken(subject), attempts=(skipped,))
            return
        at = meant[asked : asked + count]
        found = attempted(one, subject.taken(at), at, evidence, limit)
        yield found
        if found.attempts[0].why != one.why:
            return
        asked, broken = asked + count, broken + len(found.at)
        if asked == len(meant) < len(left) and broken >= (len(meant) / 2 if one.blind else 1):
            meant = left


def attempted(
    one: StrongerAttack,
    few: Subject,
    at: Tensor,
    evidence: Evidence,
    limit: PassLimit,
    near: Callable[[Tensor, Tensor], None] = lambda at, gaps: None,
) -> Refutation:
    """Try an attack on the images `few`, which stand at `at`; the model itself judges what it finds.

    Where the attack cannot be made on this model, its attempt says why in another reason than the attack's own. `near`
    is told how near to its goal the attack came for each image that it did not break.
    """
    meter = CountingOracle(one.oracle or few.meter.oracle, hear=lambda passes: limit.spend(one.weight * passes))
    problem = dataclasses.replace(few.problem, oracle=meter)
    random = evidence.answers.differ > 0
    # a random model lets go of an image once in a while: the most damaging point is the one to judge
    keeps = Keeps.WORST if random else Keeps.FIRST
    try:
        found = run(one.method, problem, few.fold(f"escalate {one.name}"), keeps=keeps)
    except QueriesSpent:
        # no other way is open then
        raise
    except (RuntimeError, AssayError) as error:
        # this way is closed for this model, and the report says so; the next one may not be
        closed = f"{one.why}; could not be tried: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        attempt = Attempt(one.name, closed, len(at), 0, one.weight * meter.spent[0])
        return dataclasses.replace(nothing_broken(few), attempts=(attempt,))
    judged, called, spent = _judge(few, found.x, random=random)
    near(at[~judged], found.gap[~judged])
    count = int(judged.sum())
    family = family_of(one.method, few.norm)
    attempt = Attempt(one.name, one.why, len(at), count, one.weight * meter.spent[0] + spent, family=family)
    return Refutation(at[judged], found.x[judged], called[judged], (attempt,))


def _judge(subject: Subject, x: Tensor, *, random: bool) -> tuple[Tensor, Tensor, int]:
    """Return which images the model itself gets wrong, inside box and budget, what it calls them, and the passes."""
    problem = subject.problem
    inside = problem.threat.allows(problem.threat.size(x, problem.x)) & problem.threat.in_box(x)
    wrong, called = torch.zeros_like(problem.goal.y), torch.zeros_like(problem.goal.y)
    times = JUDGES if random else 1
    for i in range(times):
        seen = problem.oracle.look(x, problem.goal, margin, Access.SCORES, subject.fold(f"judge {i}"))
        wrong += seen.reached
        called = torch.where(seen.reached, seen.logits.argmax(1), called)
    return inside & (wrong * 2 > times), called, times * len(x) * subject.per_look


__all__ = ["Refutation", "attempted", "escalate", "nothing_broken"]
