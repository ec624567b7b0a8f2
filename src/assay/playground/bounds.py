"""How far one image is from being broken: the smallest change that an attack finds, and what is proved from below."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from assay.api.tensors import Attacked, attack
from assay.case import Case
from assay.certification import make_certificate
from assay.certification.bounds.methods import hidden_values
from assay.core.compose import SmallestBudget
from assay.core.errors import AssayError
from assay.core.goal import Untargeted
from assay.core.threat import Threat
from assay.playground.watched import Curve, OverLimit, Stopped, watched

if TYPE_CHECKING:
    from assay.playground.asked import Prepared

ROUNDS = 10
SECONDS = 20.0
"""What the search for the smallest change may take, and bounds as much again."""
_ASKED = 7
"""Budgets at which bounds are asked for: each halves what is not known."""
_MOST_HIDDEN = 30_000
"""ReLUs of networks that bounds are tried on here: of larger ones they take minutes, and memory."""

Json = dict[str, Any]


def around(asked: Prepared, found: list[Attacked], stopped: Callable[[], bool]) -> Json:
    """Return `smallest` and `certified` of an attack that has found something, or nothing.

    Raises `Stopped` once `stopped()` says so.
    """
    end = time.monotonic() + SECONDS

    def over() -> bool:
        if time.monotonic() > end:
            raise OverLimit
        return stopped()

    smallest = _smallest(asked, found, Curve(asked.goal, lambda _: None, over, asked.ask.passes))
    return {"smallest": smallest, "certified": _certified(asked, smallest["value"], stopped)}


def _smallest(asked: Prepared, found: list[Attacked], curve: Curve) -> Json:
    ask = asked.ask
    if asked.by_size:
        one, more = found[-1], "found by its one run, whose passes are those above"
        size = float(one.size) if bool(one.success) else math.inf
    else:
        endless = dataclasses.replace(asked.threat, eps=math.inf, budget=None)
        settings: Json = {} if ask.goal is None else {"goal": asked.goal}
        method = SmallestBudget(asked.method, ROUNDS)
        try:
            one = attack(method, watched(asked.model, curve), asked.x, asked.y, endless, ids=["smallest"],
                         seed=ask.seed, **settings)  # fmt: skip
            size = float(one.size) if bool(one.success) else math.inf
            more = f"{int(one.forwards):,} forward and {int(one.backwards):,} backward passes besides"
        except OverLimit:
            size, more = math.inf, f"ended at its limit of {ask.passes:,} passes or {SECONDS:g} seconds"
        more = f"bisection by {ROUNDS} runs of {ask.attack} at most: {more}"
        if bool(found[0].success) and float(found[0].size) < size:
            size = float(found[0].size)
    if math.isinf(size):
        return {"eps": None, "value": None, "how": f"No change of any size was found ({more})."}
    return {
        "eps": written(size, ask.norm),
        "value": size,
        "how": f"The smallest change that was found, {more}. A smaller one may exist.",
    }


def written(size: float, norm: str) -> str:
    """Return a budget as people write it, in which a change of that size fits."""
    if norm == "linf":
        return f"{_up(255 * size):.12g}/255"
    return f"{math.ceil(size - 1e-6)}" if norm == "l0" else f"{_up(size):.12g}"


def _up(value: float) -> float:
    # to three digits after the point of at least 1, or three that count
    digits = 3 if value >= 1 or value == 0 else 3 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits


def _certified(asked: Prepared, broken_at: float | None, stopped: Callable[[], bool]) -> Json:
    norm = asked.ask.norm

    def none(why: str) -> Json:
        return {"radius": None, "norm": norm, "how": why}

    if norm == "l0":
        return none("None: bounds speak of linf, l2 and l1, and the norm is l0.")
    if not isinstance(asked.goal, Untargeted):
        return none("None: bounds speak of any wrong answer, and the goal is one class.")
    if any(step.name == "smoothed" for step in asked.model.defenses):
        return none("None here: a radius takes 100,000 passes. `assay certify` with --method smoothing gives it.")
    try:
        hidden = hidden_values(asked.model, asked.x)
        if hidden > _MOST_HIDDEN:
            return none(f"None: the network has {hidden:,} ReLUs, of which bounds would take minutes and be loose.")
        return _by_bounds(asked, broken_at, stopped) or none("None: linear bounds prove nothing of this image.")
    except AssayError as error:
        return none(f"None: {error}")


def _by_bounds(asked: Prepared, broken_at: float | None, stopped: Callable[[], bool]) -> Json | None:
    bound = make_certificate("crown", {})
    case = Case.of(asked.method, asked.model, asked.x, asked.y, _finite(asked.threat), {})
    bound.check(asked.model, case.problem)
    eps = float(asked.threat.eps)
    low, high = 0.0, broken_at if broken_at else eps
    # the budget that was asked for comes first: halving alone would only come near it
    middle = eps if eps <= high else high / 2
    forwards = backwards = 0
    end = time.monotonic() + SECONDS
    for _ in range(_ASKED):
        if stopped():
            raise Stopped
        if time.monotonic() > end:
            break
        proved = bound.prove(asked.model, case.problem, [middle], case.draws)
        forwards, backwards = forwards + int(proved.cost.forwards), backwards + int(proved.cost.backwards)
        low, high = (middle, high) if bool(proved.certified[0, 0]) else (low, middle)
        if low == high:
            break
        middle = (low + high) / 2
    if not low:
        return None
    how = f"intervals and linear bounds (CROWN) of the network as deployed, {forwards:,} forward and {backwards:,} "
    return {"radius": low, "norm": asked.ask.norm, "how": f"{how}backward passes"}


def _finite(threat: Threat) -> Threat:
    return threat if math.isfinite(float(threat.eps)) else dataclasses.replace(threat, eps=1.0)
