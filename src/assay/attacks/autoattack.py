"""AutoAttack (Croce and Hein 2020): a parameter-free ensemble, as a value."""

from __future__ import annotations

import enum
from typing import NamedTuple

from assay.attacks.apgd import APGD, APGDL1
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.core.compose import ByNorm, Cascade, EachTarget, Method, Restarts
from assay.core.objective import Objective, cross_entropy, dlr, dlr_targeted


class Version(enum.Enum):
    """Which ensemble."""

    STANDARD = "standard"
    PLUS = "plus"


def auto_attack(version: Version = Version.STANDARD, steps: int = 100, queries: int = 5000, targets: int = 9) -> ByNorm:
    """Return AutoAttack: each part meets only the samples that the ones before left standing.

    `standard`: APGD on the cross-entropy, targeted APGD on DLR for the `targets` likeliest classes, targeted FAB,
    `steps` each, Square with `queries`. `plus`: 5 starts of APGD on the cross-entropy and on DLR, of FAB, then Square,
    targeted APGD and targeted FAB. In L1 APGD takes 5 starts and 5 targets (Croce and Hein 2021). Models with fewer
    classes have fewer targets. Cost for a survivor of `standard`: about 6,900 forwards and 1,900 backwards.
    """
    return ByNorm(
        tuple((norm, _ensemble(norm, version, Sizes(steps, queries, targets))) for norm in ("linf", "l2", "l1"))
    )


class Sizes(NamedTuple):
    """How long each part is."""

    steps: int
    queries: int
    targets: int


def _ensemble(norm: str, version: Version, sizes: Sizes) -> Cascade:
    steps, square, fab = sizes.steps, Square(sizes.queries), FAB(sizes.steps)
    sparse = norm == "l1"
    starts = 5 if sparse or version is Version.PLUS else 1
    parts: dict[str, Method] = {"apgd-ce": _from(starts, _climb(sparse, cross_entropy, steps))}
    targeted: dict[str, Method] = {
        "apgd-t": EachTarget(_climb(sparse, dlr_targeted, steps), min(5, sizes.targets) if sparse else sizes.targets),
        "fab-t": EachTarget(fab, sizes.targets),
    }
    if version is Version.STANDARD:
        parts |= {**targeted, "square": square}
    else:
        more = Cascade((fab, Restarts(FAB(steps, random_start=True), starts - 1)))
        parts |= {"apgd-dlr": _from(starts, _climb(sparse, dlr, steps)), "fab": more, "square": square, **targeted}
    return Cascade(tuple(parts.values()), tuple(parts))


def _climb(sparse: bool, objective: Objective, steps: int) -> APGD | APGDL1:
    return APGDL1(steps, objective=objective) if sparse else APGD(steps, objective=objective)


def _from(starts: int, attack: APGD | APGDL1) -> Method:
    return attack if starts == 1 else Restarts(attack, starts)
