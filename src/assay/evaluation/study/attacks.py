"""Attacks as a study names them: checked against the table, reduced to what differs from the defaults."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from assay.attacks import ATTACKS, GOALS, AttackEntry, build, options_of
from assay.attacks.generic import unwrapped
from assay.core.compose import Method, is_attack
from assay.core.errors import BadInput, did_you_mean
from assay.core.objective import parse_objective, written_objective
from assay.evaluation.study import patch_attack, universal_attack
from assay.evaluation.study import surrogates as surrogate
from assay.evaluation.study.errors import Misplaced, UnknownKey
from assay.evaluation.study.patch_attack import PatchEntry
from assay.evaluation.study.universal_attack import UniversalEntry


@dataclasses.dataclass(frozen=True)
class Filed:
    """An attack that a file holds: its line, and how its options are checked, read, and made an attack."""

    entry: PatchEntry | UniversalEntry
    check_option: Callable[[str, Any], None]
    digest: Callable[[Mapping[str, Any]], str]
    method: Callable[[Mapping[str, Any], tuple[int, int]], Method]


FILED: Mapping[str, Filed] = {
    one.NAME: Filed(one.ENTRY, one.check_option, one.digest, one.method) for one in (patch_attack, universal_attack)
}

STUDY_ATTACKS: Mapping[str, AttackEntry | PatchEntry | UniversalEntry] = {
    **ATTACKS,
    **{name: filed.entry for name, filed in FILED.items()},
}
"""What a study may name: the table of attacks, and the attacks that files hold."""


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `Misplaced` for an unknown attack, or for the first option that it cannot take."""
    if name not in STUDY_ATTACKS:
        bare = str(name).split(":")[0]
        if bare in STUDY_ATTACKS:
            told = " Options stand beside the name here: {attack: " + bare + ", steps: 10}."
        else:
            told = did_you_mean(bare, STUDY_ATTACKS)
        raise Misplaced(("attack",), f"Unknown attack {name!r}.{told} There are: {', '.join(STUDY_ATTACKS)}.")
    defaults = STUDY_ATTACKS[name].options
    for option, value in options.items():
        if option in defaults and value == defaults[option]:
            continue
        try:
            if name in FILED:
                FILED[name].check_option(option, value)
            elif option in surrogate.OPTIONS:
                surrogate.check_option(name, option, value)
            else:
                build(name, **{option: value})
        except BadInput as error:
            kind = Misplaced if option in {*defaults, *general_options(name)} else UnknownKey
            raise kind((option,), str(error)) from error


def general_options(name: str) -> dict[str, Any]:
    """Return the options that an attack takes besides its own, with the values at which they change nothing."""
    general = dict(STUDY_ATTACKS[name].general)
    if name in FILED:
        return general
    return {**general, **{option: value for option, value in surrogate.OPTIONS.items() if option != "surrogate_digest"}}


def given_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change something, in the order of the table: equal attacks are written equally."""
    own = STUDY_ATTACKS[name].options
    general = {option: value for option, value in general_options(name).items() if option not in own}
    defaults = {**own, **general, "surrogate_digest": None}
    given = {option: _plain(option, value) for option, value in options.items()}
    return {option: given[option] for option in defaults if option in given and given[option] != defaults[option]}


def _plain(option: str, value: Any) -> Any:
    # cross_entropy/1e2 and cross_entropy/100 are one attack
    return written_objective(parse_objective(value)) if option == "objective" and isinstance(value, str) else value


def describe(method: Method) -> dict[str, Any]:
    """Return how a study writes an attack built in Python: `PGD(steps=10)` is `{"attack": "pgd", "steps": 10}`.

    Raises `BadInput` for a method that no line of the table makes.
    """
    for attack, general in unwrapped(method):
        for name, entry in ATTACKS.items():
            for options in _candidates(entry, attack):
                given = given_options(name, options) if set(options) <= set(entry.options) else {}
                given = given_options(name, {**general, **given})
                if build(name, **given) == method:
                    return {"attack": name, **given}
    raise BadInput(f"{method!r} is no attack of the table. Name one of: {', '.join(ATTACKS)}.")


def _candidates(entry: AttackEntry, attack: Method) -> list[dict[str, Any]]:
    # a class says its options itself; of a composition only the words it chooses by can be tried
    if not is_attack(attack):
        names, values = entry.choices.keys(), entry.choices.values()
        return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]
    if type(entry.make()) is not type(attack):
        return []
    return [{option: value for option, value in options_of(attack).items() if option != "keeps"}]


def norms_of(name: str) -> tuple[str, ...]:
    """Return the norms an attack works in."""
    return STUDY_ATTACKS[name].norms


def resolved(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with what they depend on by content: the digest of a patch beside its file."""
    if name not in FILED:
        return dict(options)
    return {**options, "digest": FILED[name].digest(options)}


def method_of(name: str, options: Mapping[str, Any], image: tuple[int, int]) -> Method:
    """Return the attack that a study names, for images of `image` (height, width) pixels; its surrogate apart."""
    if name in FILED:
        return FILED[name].method(options, image)
    return build(name, **{option: value for option, value in options.items() if option not in surrogate.OPTIONS})


def check_goal_of(name: str, goal: str) -> None:
    """Raise `BadInput` for a goal, as a study writes it, that an attack cannot serve."""
    goals = ATTACKS[name].goals if name in ATTACKS else GOALS
    if goal.split()[0] not in goals:
        raise BadInput(f"{name} serves the goals {', '.join(goals)}, not {goal!r}")
