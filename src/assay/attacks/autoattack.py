"""AutoAttack (Croce and Hein 2020): a parameter-free ensemble, as a value."""

from __future__ import annotations

import enum

from assay.attacks.apgd import APGD, APGDL1
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.core.compose import ByNorm, Cascade, EachTarget, Method, Restarts
from assay.core.objective import Objective, cross_entropy, dlr, dlr_targeted

_TARGETS = 9


class Version(enum.Enum):
    """Which ensemble."""

    STANDARD = "standard"
    PLUS = "plus"


def auto_attack(version: Version = Version.STANDARD) -> ByNorm:
    """Return AutoAttack: each part meets only the samples that the ones before left standing.

    `standard`: APGD on the cross-entropy, targeted APGD on DLR for the 9 likeliest targets, targeted FAB, Square
    with 5,000 queries. `plus`: 5 starts of APGD on the cross-entropy and on DLR, of FAB, then Square, targeted APGD and
    targeted FAB. In L1 APGD takes 5 starts and 5 targets (Croce and Hein 2021).
    Models with fewer classes have fewer targets. Cost for a survivor of `standard`: about 6,900 forwards and 1,900
    backwards.
    """
    return ByNorm(tuple((norm, _ensemble(norm, version)) for norm in ("linf", "l2", "l1")))


def _ensemble(norm: str, version: Version) -> Cascade:
    sparse = norm == "l1"
    starts = 5 if sparse or version is Version.PLUS else 1
    parts: dict[str, Method] = {"apgd-ce": _from(starts, _climb(sparse, cross_entropy))}
    targeted: dict[str, Method] = {
        "apgd-t": EachTarget(_climb(sparse, dlr_targeted), 5 if sparse else _TARGETS),
        "fab-t": EachTarget(FAB(), _TARGETS),
    }
    if version is Version.STANDARD:
        parts |= {**targeted, "square": Square()}
    else:
        more = Cascade((FAB(), Restarts(FAB(random_start=True), starts - 1)))
        parts |= {"apgd-dlr": _from(starts, _climb(sparse, dlr)), "fab": more, "square": Square(), **targeted}
    return Cascade(tuple(parts.values()), tuple(parts))


def _climb(sparse: bool, objective: Objective) -> APGD | APGDL1:
    return APGDL1(objective=objective) if sparse else APGD(objective=objective)


def _from(starts: int, attack: APGD | APGDL1) -> Method:
    return attack if starts == 1 else Restarts(attack, starts)
