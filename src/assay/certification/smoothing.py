"""Certificates of smoothed classifiers: no change shorter than a radius moves the answer (Cohen et al. 2019).

If a share p > 1/2 of all noisy copies of an image gets the class c, then c also leads at every lattice image nearer
than sigma Phi^-1(p) in the Euclidean norm. Votes tell p up to chance: a statement about an image is false with
probability alpha at most. Of other norms it says what follows: a change of L1 size r is no longer than r, one of Linf
size r no longer than r sqrt(d), for d values that may change.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.certification.certificate import ABSTAINED, Certificates
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import margin
from assay.core.oracle import Access, Cost, LookPasses, TorchOracle
from assay.core.problem import Problem
from assay.core.tensors import flat, take
from assay.core.threat import Threat
from assay.defenses.chain import written_chain
from assay.defenses.lattice import LEVELS
from assay.defenses.smoothing import Smoothed, answer_by_vote
from assay.models import Classifier

NORMS = ("l2", "l1", "linf")

_Alpha = Annotated[
    float, Option("Probability that a statement about an image is false.", "share", above=True, most=0.5, below=True)
]

# how far beyond half a grey level rounding in float32 may move a value
_HALF = 0.5 + 1e-4
# votes of the first look of a sequence, and how many more each next one adds, relative to those before
_FIRST, _GROWTH = 25, 0.15
# level of the bound that gives an image up: that costs power, never truth
_HOPELESS = 0.001


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """A radius for each image, from a number of votes that is fixed beforehand (Cohen et al. 2019).

    R = sigma Phi^-1(p), with p the lower bound of Clopper and Pearson for the share of the label's class in `votes`
    votes, one-sided at level `alpha`; no radius where p is at most 1/2. The class is the label's: "certified and right"
    is what counts, and needs no votes that choose a class. With `selection` (Cohen et al. take 100) so many votes of
    their own choose it, and the label is certified where it is chosen.
    """

    votes: Annotated[int, Option("Votes that bound the share.", "passes", least=10, most=2**24)] = 100_000
    alpha: _Alpha = 0.001
    selection: Annotated[
        int, Option("Votes of their own that choose the class; 0: the label's.", "passes", least=0)
    ] = 0

    def __post_init__(self) -> None:
        """Refuse so few votes that nothing could be certified."""
        if self.alpha ** (1 / self.votes) <= 0.5:
            raise BadInput(
                f"votes is {self.votes}: at alpha {self.alpha:g} even as many equal votes certify nothing. Take "
                f"{math.floor(math.log2(1 / self.alpha)) + 1} or more."
            )

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for a model that is not smoothed, and for a threat that no radius speaks of."""
        check(model, problem)

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return the radius of every image, in the threat's norm, and at which budgets that is enough."""
        check(model, problem)
        y = problem.goal.y
        with model.held(), torch.no_grad():
            ballot = _Ballot.of(model, problem)
            counts, cost = ballot.count(problem, self.votes, draws.fold("estimation"))
            chosen = y
            if self.selection:
                picked, more = ballot.count(problem, self.selection, draws.fold("selection"))
                chosen, cost = picked.argmax(1), cost.plus(more)
        top, refused = answer_by_vote(counts, self.alpha)
        own = counts.gather(1, y[:, None])[:, 0]
        found = certified_radius(_numpy(own), self.votes, self.alpha, ballot.sigma)
        radius = torch.where(chosen == y, torch.from_numpy(found).to(y.device), 0)
        certified = torch.stack([radius > reach(problem.threat.at(eps), problem.x) for eps in budgets])
        prediction = torch.where(refused, ABSTAINED, top)
        # a one-sided bound tells a class that the two-sided test does not
        prediction = torch.where(radius > 0, y, prediction)
        return Certificates(certified, prediction, None, in_norm(problem.threat, radius, problem.x), cost)


@dataclasses.dataclass(frozen=True)
class SequentialSmoothing:
    """Yes or no at given budgets, with as many votes as that takes (Voracek 2024).

    For a budget that reaches r, the share of the label's class has to exceed p0 = Phi(r / sigma). After N votes with A
    for the class, E = B(A + 1/2, N - A + 1/2) / (B(1/2, 1/2) p0^A (1 - p0)^(N - A)); certified is what has E of
    1 / `alpha` or more with A / N above p0. By Ville's inequality this holds whenever one looks. An image is given up,
    and not certified, where even the upper bound of its share (at level 0.001) would not certify it by the last of
    `votes` votes.
    """

    votes: Annotated[int, Option("Most votes for an image.", "passes", least=10, most=2**24)] = 100_000
    alpha: _Alpha = 0.001

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for a model that is not smoothed, and for a threat that no radius speaks of."""
        check(model, problem)

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return at which budgets every image is certified; the votes stop once each of them is decided."""
        check(model, problem)
        n, y = len(problem.x), problem.goal.y
        needed = torch.stack([_per_image(reach(problem.threat.at(eps), problem.x), y) for eps in budgets])
        certified = torch.zeros(len(budgets), n, dtype=torch.bool, device=y.device)
        open_ = torch.ones_like(certified)
        totals: Tensor | None = None
        cost, asked = Cost.nothing(problem.x), 0
        with model.held(), torch.no_grad():
            ballot = _Ballot.of(model, problem)
            while asked < self.votes and bool(open_.any()):
                at = open_.any(0).nonzero().squeeze(1)
                more = min(max(_FIRST, math.ceil(_GROWTH * asked)), self.votes - asked)
                counts, spent = ballot.count(take(problem, at), more, draws.take(at).fold(f"after {asked}"))
                totals = counts.new_zeros(n, counts.shape[1]) if totals is None else totals
                totals[at] += counts
                cost = Cost(*(old.index_add(0, at, new) for old, new in zip(cost, spent, strict=True)))
                asked += more
                own = _numpy(totals[at].gather(1, y[at, None])[:, 0])
                radii = needed[:, at].cpu().numpy() / ballot.sigma
                proved = torch.from_numpy(certified_at(own, asked, radii, self.alpha)).to(y.device)
                likely = torch.from_numpy(certified_at(_most(own, asked, self.votes), self.votes, radii, self.alpha))
                certified[:, at] |= open_[:, at] & proved
                open_[:, at] &= ~proved & likely.to(y.device)
        assert totals is not None, "there is a budget"
        top, refused = answer_by_vote(totals, self.alpha)
        prediction = torch.where(certified.any(0), y, torch.where(refused, ABSTAINED, top))
        return Certificates(certified, prediction, None, None, cost)


def check(model: Classifier, problem: Problem) -> None:
    """Raise `BadInput` where randomised smoothing proves nothing: of another model, norm, goal or precision."""
    steps = model.defenses
    if not steps or steps[0].name != "smoothed":
        inside = (model.undefended or model).spec or "MODEL"
        chain = "|".join(["smoothed:sigma=0.25", *([written_chain(steps)] if steps else [])])
        raise BadInput(
            f"{model.spec or 'This model'} is not smoothed, and smoothing certifies the smoothed classifier alone. "
            f"Name that one: {inside}|{chain}, with smoothed as the first of the chain."
        )
    if problem.threat.norm.name not in NORMS:
        raise BadInput(
            f"The threat is {problem.threat.norm.name}, and a radius of smoothing speaks of {', '.join(NORMS)}. "
            "Use one of these."
        )
    if not isinstance(problem.goal, Untargeted):
        raise BadInput(
            f"The goal is {type(problem.goal).__name__}, and a certificate says that the answer stays right: it needs "
            "Untargeted."
        )
    if model.precision is torch.bfloat16:
        raise BadInput(
            "The model computes in bfloat16, which does not hold 256 grey levels: the images it is asked about are "
            "others. Load it in float32, or in float16."
        )


def certified_radius(counts: NDArray[np.int64], votes: int, alpha: float, sigma: float) -> NDArray[np.float64]:
    """Return sigma Phi^-1(p) for `counts` of `votes` votes, with p their Clopper-Pearson bound; 0 where p <= 1/2."""
    from scipy.special import betaincinv, ndtri

    p = np.where(counts > 0, betaincinv(np.maximum(counts, 1), votes - counts + 1, alpha), 0.0)
    return np.asarray(np.where(p > 0.5, sigma * ndtri(p), 0.0))


def certified_at(
    counts: NDArray[np.float64] | NDArray[np.int64], votes: int, radii: NDArray[np.float64], alpha: float
) -> NDArray[np.bool_]:
    """Return bool `[B, N]`: which `radii` `[B, N]`, in units of sigma, `counts` `[N]` of `votes` certify at any time.

    Claims nest: who is certified at a radius is certified at all smaller ones, so that all of an image's claims hold
    together with probability 1 - alpha.
    """
    from scipy.special import betaln, log_ndtr, ndtr

    against = votes - counts
    at_radius = counts * log_ndtr(radii) + against * log_ndtr(-radii)
    evidence = betaln(counts + 0.5, against + 0.5) - betaln(0.5, 0.5) - at_radius
    return np.asarray((evidence >= math.log(1 / alpha)) & (counts / votes > ndtr(radii)))


def _most(counts: NDArray[np.int64], asked: int, votes: int) -> NDArray[np.float64]:
    # of all votes, if those to come have the share's upper bound
    from scipy.special import betaincinv

    share = np.where(counts < asked, betaincinv(counts + 1, np.maximum(asked - counts, 1), 1 - _HOPELESS), 1.0)
    return np.asarray(counts + (votes - asked) * share)


def reach(threat: Threat, x: Tensor) -> Tensor | float:
    """Return the Euclidean length that no accepted change of images `x` exceeds, on the lattice: a number, or `[N]`.

    Where the threat has no grid that divides 255 levels, an attacked image is rounded to the lattice before it is
    voted on, and so is the image: each may move by half a grey level in every value.
    """
    stretch, rounding = _stretch(threat, x), _rounding(threat, x)
    return threat.bound * stretch + rounding


def in_norm(threat: Threat, radius: Tensor, x: Tensor) -> Tensor:
    """Return float64 `[N]`: the largest size in the threat's norm whose accepted changes stay inside a `radius`."""
    slack = threat.at(0.0).bound
    inside = (radius - _rounding(threat, x)) / _stretch(threat, x) - slack
    return (inside / (threat.at(1.0).bound - slack)).clamp_min(0)


def _stretch(threat: Threat, x: Tensor) -> Tensor | float:
    # Euclidean length per size of a change
    scale = threat.scale
    widest = float(scale.max()) if isinstance(scale, Tensor) else scale
    if threat.norm.name != "linf":
        return widest
    free = threat.free(x)
    return free.double().sqrt() * widest if isinstance(free, Tensor) else math.sqrt(free) * widest


def _rounding(threat: Threat, x: Tensor) -> Tensor | float:
    if threat.grid is not None and LEVELS % threat.grid == 0:
        return 0.0
    levels = x.double() * LEVELS
    own = torch.linalg.vector_norm(flat(levels - levels.round()), dim=1)
    longest: Tensor = (own + _HALF * math.sqrt(x[0].numel())) / LEVELS
    return longest


def _per_image(value: Tensor | float, y: Tensor) -> Tensor:
    return value.double() if isinstance(value, Tensor) else torch.full_like(y, value, dtype=torch.float64)


def _numpy(values: Tensor) -> NDArray[np.int64]:
    return np.asarray(values.cpu().numpy())


class _Counts(nn.Module):
    # the votes of each class in place of logits; whole numbers below 2^24 are exact in float32
    def __init__(self, smoothed: Smoothed) -> None:
        super().__init__()
        self.smoothed, self.votes = smoothed, 1

    def forward(self, x: Tensor) -> Tensor:
        return self.smoothed.count(x, self.votes).float()


@dataclasses.dataclass(frozen=True)
class _Ballot:
    # asks for votes through the oracle, which bounds memory, knows the model's form, and counts
    oracle: TorchOracle
    counts: _Counts

    @classmethod
    def of(cls, model: Classifier, problem: Problem) -> _Ballot:
        smoothed = model.module
        assert isinstance(smoothed, Smoothed), "check says so"
        counts, asked = _Counts(smoothed), problem.oracle
        batch = asked.batch if isinstance(asked, TorchOracle) else None
        oracle = dataclasses.replace(model.oracle(batch), model=counts, rejects=False)
        # the form is found by asking, which is dear once there are many votes
        oracle.form(problem.x)
        return cls(oracle, counts)

    @property
    def sigma(self) -> float:
        return self.counts.smoothed.sigma

    def count(self, problem: Problem, votes: int, draws: Draws) -> tuple[Tensor, Cost]:
        self.counts.votes = votes
        oracle = dataclasses.replace(self.oracle, passes=self._passes(votes))
        seen = oracle.look(problem.x, Untargeted(problem.goal.y), margin, Access.SCORES, draws)
        return seen.logits.long(), seen.cost

    def _passes(self, votes: int) -> LookPasses:
        # a copy may itself cost more than one pass, where the smoothed classifier stands around other defences
        whole = self.oracle.passes
        each = whole.forwards // self.counts.smoothed.votes
        return LookPasses(each * votes, 0, whole.always // self.counts.smoothed.votes * votes)
