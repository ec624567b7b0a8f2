"""Options that every attack of the table takes besides its own: random starts, and lenses for those by gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.core.compose import Composition, Lens, Method, Restarts, SmallestBudget, Through, is_attack
from assay.core.errors import BadInput
from assay.core.lenses import Averaged, Expectation, InputDiversity
from assay.core.oracle import Access
from assay.core.search import Keeps

GENERIC: Mapping[str, Any] = {
    "eot": 1,
    "averaged": 1,
    "averaged_sigma": 0.03,
    "diversity": 0.0,
    "restarts": 1,
    "smallest": 0,
}
"""The options with the values at which they change nothing.

`eot`: gradients are means over that many looks, for models that draw random
numbers. `averaged`: means over that many points near the point, `averaged_sigma` (in pixels) the standard deviation of
the Gaussian they are drawn from, for gradients that are noise or zero. `diversity`: the probability with which a look
sees the image resized and padded at random. `restarts`: that many random starts. `smallest`: the smallest budget at
which the attack succeeds, by that many rounds of bisection.
"""


def checked(name: str, option: str, value: Any) -> Any:
    """Return the value of an option. Raises `BadInput` for one that it cannot have."""
    where = f"Attack {name!r}: {option} is {value!r}"
    if isinstance(GENERIC[option], int):
        least = min(1, GENERIC[option])
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadInput(f"{where}, expected a whole number of {least} or more.")
        return value
    most = 1.0 if option == "diversity" else math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most or math.isinf(value):
        raise BadInput(f"{where}, expected a number of 0 or more{', at most 1' if most == 1 else ''}.")
    return float(value)


def wrapped(name: str, attack: Method, given: Mapping[str, Any]) -> Method:
    """Return the attack called `name` with the options `given`.

    Raises `BadInput` where gradients are to be averaged that the attack does not ask for.
    """
    options = {**GENERIC, **{option: checked(name, option, value) for option, value in given.items()}}
    for option, lens in _lenses(options).items():
        if attack.access is not Access.GRADIENT:
            raise BadInput(f"Attack {name!r} asks for no gradients, {option} is for attacks that do.")
        attack = Through(lens, attack)
    if options["smallest"] and attack.keeps is Keeps.SMALLEST:
        raise BadInput(f"Attack {name!r} looks for the smallest change by itself: leave out smallest.")
    attack = attack if options["restarts"] == 1 else Restarts(attack, options["restarts"])
    return SmallestBudget(attack, options["smallest"]) if options["smallest"] else attack


def unwrapped(method: Method) -> list[tuple[Method, dict[str, Any]]]:
    """Return the ways to read a method as one with generic options: itself, and what `wrapped` made it of."""
    options: dict[str, Any] = {}
    readings = [(method, options)]
    while not is_attack(method) and (own := _options_of(method)) and not own.keys() & options.keys():
        options, method = {**options, **own}, method.children[0]
        readings.append((method, options))
    return readings


_COUNTED: Mapping[type, tuple[str, str]] = {SmallestBudget: ("smallest", "rounds"), Restarts: ("restarts", "n")}
"""The compositions that `wrapped` makes, each with its option and the field that holds the value."""


def _options_of(method: Composition) -> dict[str, Any]:
    if method.lens is not None:
        return _written(method.lens)
    option, field = _COUNTED.get(type(method), ("", ""))
    return {option: getattr(method, field)} if option else {}


def _lenses(options: Mapping[str, Any]) -> dict[str, Lens]:
    # the last stands outermost, next to the model
    lenses: dict[str, Lens] = {}
    if options["diversity"] > 0:
        lenses["diversity"] = InputDiversity(options["diversity"])
    if options["averaged"] > 1:
        lenses["averaged"] = Averaged(options["averaged"], options["averaged_sigma"])
    if options["eot"] > 1:
        lenses["eot"] = Expectation(options["eot"])
    return lenses


def _written(lens: Lens) -> dict[str, Any]:
    match lens:
        case InputDiversity(probability):
            return {"diversity": probability}
        case Averaged(samples, sigma):
            return {"averaged": samples, "averaged_sigma": sigma}
        case Expectation(samples):
            return {"eot": samples}
    return {}
