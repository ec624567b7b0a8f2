"""Options that every attack of the table takes besides its own: random starts, and lenses for those by gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from assay.attacks.options import Option, options_of_maker
from assay.core.adaptive import Adaptive
from assay.core.compose import (
    Composition,
    Lens,
    Method,
    Restarts,
    SmallestBudget,
    Through,
    is_attack,
    numbers_of,
)
from assay.core.lenses import Averaged, Expectation, InputDiversity
from assay.core.oracle import Access
from assay.core.search import Keeps


def wrapped(
    attack: Method,
    *,
    eot: Annotated[int, Option("Gradients are means over so many looks, for models that are random.", "looks")] = 1,
    averaged: Annotated[
        int, Option("Gradients are means over so many points around, for gradients that are noise or zero.", "looks")
    ] = 1,
    averaged_sigma: Annotated[float, Option("Standard deviation of those points.", "pixel values")] = 0.03,
    diversity: Annotated[float, Option("How likely a look sees the image resized and padded at random.", most=1)] = 0.0,
    adaptive: Annotated[
        Literal["none", "selective", "orthogonal", "views", "features", "logits"],
        Option("What gradients are followed against a detector, for models that refuse images."),
    ] = "none",
    restarts: Annotated[int, Option("Random starts, on the samples that still stand.", "starts")] = 1,
    smallest: Annotated[
        int, Option("Rounds of bisection for the smallest budget at which the attack succeeds.", "rounds", least=0)
    ] = 0,
) -> Method:
    """Return the attack with the options of every attack; the defaults change nothing."""
    # the last stands outermost, next to the model
    lenses: list[Lens] = []
    if adaptive != "none":
        # of gradients that are means already
        lenses.append(Adaptive(adaptive))
    if diversity > 0:
        lenses.append(InputDiversity(float(diversity)))
    if averaged > 1:
        lenses.append(Averaged(averaged, float(averaged_sigma)))
    if eot > 1:
        lenses.append(Expectation(eot))
    for lens in lenses:
        attack = Through(lens, attack)
    attack = attack if restarts == 1 else Restarts(attack, restarts)
    return SmallestBudget(attack, smallest) if smallest else attack


GENERIC: Mapping[str, Option] = options_of_maker(wrapped)
"""The options of every attack, with the values at which they change nothing as defaults."""

_LENSES = ("eot", "averaged", "averaged_sigma", "diversity", "adaptive")


def unfit(option: str, attack: Method) -> str:
    """Return why an attack cannot take an option of `GENERIC`; nothing where it can."""
    if option in _LENSES and attack.access is not Access.GRADIENT:
        return f"asks for no gradients, {option} is for attacks that do."
    if option == "adaptive" and not _climbs_one_number(attack):
        return "climbs several differences of logits at once, adaptive is for attacks that climb one objective."
    # one that looks for the smallest change by itself needs no bisection
    if option == "smallest" and attack.keeps is Keeps.SMALLEST:
        return "looks for the smallest change by itself: leave out smallest."
    return ""


def _climbs_one_number(method: Method) -> bool:
    if not is_attack(method):
        return any(_climbs_one_number(child) for child in method.children)
    return method.access is Access.GRADIENT and not numbers_of(method.objective, 10)


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


def _written(lens: Lens) -> dict[str, Any]:
    match lens:
        case Adaptive(way):
            return {"adaptive": way}
        case InputDiversity(probability):
            return {"diversity": probability}
        case Averaged(samples, sigma):
            return {"averaged": samples, "averaged_sigma": sigma}
        case Expectation(samples):
            return {"eot": samples}
    return {}
