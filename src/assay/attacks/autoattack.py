"""AutoAttack (Croce and Hein 2020): a parameter-free ensemble, as a value."""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple

from assay.attacks.apgd import APGD, APGDL1
from assay.attacks.ddn import DDN
from assay.attacks.fab import FAB
from assay.attacks.gradient import PGD
from assay.attacks.options import Option, Queries, Steps, Targets
from assay.attacks.pdpgd import PDPGD
from assay.attacks.square import Square
from assay.core.compose import ByNorm, Cascade, DiverseStart, EachTarget, Method, Restarts, Through, WhileInReach
from assay.core.lenses import Expectation
from assay.core.objective import Objective, cross_entropy, dlr, dlr_targeted, margin

_STARTS = 5
_LOOKS = 20


class Version(enum.Enum):
    """Which ensemble."""

    STANDARD = "standard"
    PLUS = "plus"
    RAND = "rand"


class _Sizes(NamedTuple):
    # how long each part is
    steps: int
    queries: int
    targets: int


def auto_attack(
    version: Annotated[Version, Option("Which ensemble; rand is for random models.")] = Version.STANDARD,
    steps: Steps = 100,
    queries: Queries = 5000,
    targets: Targets = 9,
) -> ByNorm:
    """Return AutoAttack: each part meets only the samples that the ones before left standing.

    `standard`: APGD on the cross-entropy, APGD on the targeted DLR and FAB towards each of the `targets` likeliest
    wrong classes, `steps` each, and Square with `queries`; in L1 (Croce and Hein 2021) APGD from 5 starts, and
    towards 5 classes. `plus`: APGD on the cross-entropy and on DLR from 5 starts, FAB from the image and 4 random
    starts, Square, targeted APGD, and targeted FAB from as many starts as FAB. `rand`, for models that answer at
    random: APGD on the cross-entropy and on DLR, on the mean of 20 looks. Models with fewer classes have fewer targets.
    Access: gradient. Cost for a survivor, of `standard` with 10 classes: 6,921 forwards, 1,900 backwards.
    """
    sizes = _Sizes(steps, queries, targets)
    build = {Version.STANDARD: _standard, Version.PLUS: _plus, Version.RAND: _rand}[version]
    return ByNorm(tuple((norm, _named(build(norm == "l1", sizes))) for norm in ("linf", "l2", "l1")))


def _named(parts: dict[str, Method]) -> Cascade:
    return Cascade(tuple(parts.values()), tuple(parts))


def _standard(sparse: bool, sizes: _Sizes) -> dict[str, Method]:
    climb = _climb(sparse, cross_entropy, sizes)
    targets = min(5, sizes.targets) if sparse else sizes.targets
    return {
        "apgd-ce": Restarts(climb, _STARTS) if sparse else climb,
        "apgd-t": EachTarget(_climb(sparse, dlr_targeted, sizes), targets),
        "fab-t": EachTarget(FAB(sizes.steps), sizes.targets),
        "square": Square(sizes.queries),
    }


def _plus(sparse: bool, sizes: _Sizes) -> dict[str, Method]:
    # FAB's own first start is the image; what is random comes after
    fab, again = FAB(sizes.steps), Restarts(FAB(sizes.steps, random_start=True), _STARTS - 1)
    return {
        "apgd-ce": Restarts(_climb(sparse, cross_entropy, sizes), _STARTS),
        "apgd-dlr": Restarts(_climb(sparse, dlr, sizes), _STARTS),
        "fab": fab,
        "fab-restarts": again,
        "square": Square(sizes.queries),
        "apgd-t": EachTarget(_climb(sparse, dlr_targeted, sizes), sizes.targets),
        "fab-t": EachTarget(fab, sizes.targets),
        "fab-t-restarts": EachTarget(again, sizes.targets),
    }


def _rand(sparse: bool, sizes: _Sizes) -> dict[str, Method]:
    lens = Expectation(_LOOKS)
    return {
        "apgd-ce": Through(lens, _climb(sparse, cross_entropy, sizes)),
        "apgd-dlr": Through(lens, _climb(sparse, dlr, sizes)),
    }


def _climb(sparse: bool, objective: Objective, sizes: _Sizes) -> APGD | APGDL1:
    return APGDL1(sizes.steps, objective=objective) if sparse else APGD(sizes.steps, objective=objective)


def cascade(steps: Steps = 50, queries: Queries = 330, targets: Targets = 4) -> ByNorm:
    """Return our own ensemble: what breaks most per pass first, survivors only, no saturated softmax in its way.

    PGD on the margin (0.4 `steps`); in Linf and L2 again (0.16 `steps`) from 5 and 4 starts that differ in the outputs,
    which leave plateaus where every random point is blind (`DiverseStart`), and from up to 10 where a sample's own
    starts bring it into reach (`WhileInReach`). In Linf, then: APGD on DLR from 2 starts, and on the cross-entropy from
    2, or up to 4 in reach (`steps`); APGD on the targeted DLR towards each of the `targets` likeliest wrong classes
    (0.7 `steps`); Square with 0.8 `queries`, on a schedule of that length. What networks trained in Linf hide from
    projected steps, other attacks find. In L2: DDN (2 `steps`), DDN towards each of `targets` - 1 classes (1.6 `steps`
    each), Square (0.9 `queries`).
    In L1: a climb on the cross-entropy from 2 starts, or up to 6 in reach (0.5 `steps`), PDPGD (1.2 `steps`), PDPGD
    towards each of `targets` - 1 classes (1.6 `steps` each, of half of the pixel range at first), the climbs towards
    `targets` + 1 classes (0.54 `steps` each), Square (0.2 `queries`).
    The lengths of the parts were chosen on the borderline images of MNIST networks; in Linf and L2, networks of
    other seeds, architectures and trainings confirm them (the rows `fresh` of the strength board).
    Access: gradient. Cost for a survivor, with 4 wrong classes or more: 684 forwards and 405 backwards, in L2 703 and
    396, in L1 585 and 505: an eighth of `auto_attack`, or less. One in reach costs up to 297 more, 114, and 204.
    """
    return ByNorm(tuple((norm, _short(norm, _Sizes(steps, queries, targets))) for norm in ("linf", "l2", "l1")))


def _short(norm: str, sizes: _Sizes) -> Cascade:
    def steps(share: float) -> int:
        return max(1, round(share * sizes.steps))

    begin: dict[str, Method] = {"pgd-margin": PGD(steps(0.4), objective=margin)}
    anew = DiverseStart(PGD(steps(0.16), objective=margin))
    if norm == "l2":
        nearest: dict[str, Method] = {
            "pgd-diverse": WhileInReach(anew, 4, 10),
            "ddn": DDN(steps(2)),
            "ddn-t": EachTarget(DDN(steps(1.6)), max(1, sizes.targets - 1)),
            "square": Square(max(1, round(0.9 * sizes.queries)), rescale=True),
        }
        return _named({**begin, **nearest})
    if norm == "l1":
        plain = PDPGD(steps(1.2), step_size=0.5)
        quick = PDPGD(steps(1.6), step_size=0.5, dual_step=0.2, dual_ratio=0.03)
        sparse: dict[str, Method] = {
            "apgd-ce": WhileInReach(_climb(True, cross_entropy, sizes._replace(steps=steps(0.5))), 2, 6),
            "pdpgd": plain,
            "pdpgd-t": EachTarget(quick, max(1, sizes.targets - 1)),
            "apgd-t": EachTarget(_climb(True, dlr_targeted, sizes._replace(steps=steps(0.54))), sizes.targets + 1),
            "square": Square(max(1, round(0.2 * sizes.queries)), rescale=True),
        }
        return _named({**begin, **sparse})
    climbs: dict[str, Method] = {
        "pgd-diverse": WhileInReach(anew, 5, 10),
        "apgd-dlr": Restarts(_climb(False, dlr, sizes), 2),
        "apgd-ce": WhileInReach(_climb(False, cross_entropy, sizes), 2, 4),
        "apgd-t": EachTarget(_climb(False, dlr_targeted, sizes._replace(steps=steps(0.7))), sizes.targets),
        "square": Square(max(1, round(0.8 * sizes.queries)), rescale=True),
    }
    return _named({**begin, **climbs})
