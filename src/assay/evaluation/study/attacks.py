"""Attacks as a study names them: checked against the table, reduced to what differs from the defaults."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from assay.attacks import ATTACKS, AttackEntry, options_of
from assay.attacks.baselines import NoAttack
from assay.attacks.generic import GENERIC, unwrapped
from assay.attacks.options import Kind, Option, read_options
from assay.attacks.patch import Pasted, Place
from assay.attacks.universal import Added
from assay.core.compose import ByNorm, Cascade, Method, Restarts, is_attack
from assay.core.errors import BadInput, did_you_mean
from assay.core.objective import parse_objective, written_objective
from assay.evaluation.study.errors import Misplaced, UnknownKey
from assay.evaluation.study.surrogates import OPTIONS
from assay.vocabulary import UNATTACKED

Digest = Annotated[str | None, Option("Digest of what the file holds; a plan writes it.")]


def pasted(
    *,
    image: Place,
    file: Annotated[str | None, Option("The patch, as `assay patch train` writes it.")] = None,
    placement: Annotated[int, Option("The number of the first random placement.")] = 1,
    places: Annotated[int, Option("How many placements are tried.", "placements")] = 1,
    stride: Annotated[
        int | None, Option("All placements of a grid with so many pixels between them.", "pixels")
    ] = None,
    offsets: Annotated[Literal["all", "published"], Option("Which random places there are.")] = "all",
    at: Annotated[Place | None, Option("A fixed place X,Y of the top left corner.", "pixels")] = None,
    digest: Digest = None,
    restarts: Annotated[int, GENERIC["restarts"]] = 1,
) -> Method:  # shape: an option of the attack each
    """Return the attack that pastes a trained patch (Brown et al. 2017) on images of `image` (height, width) pixels.

    The patch covers what lies beneath it; the budget counts the values it covers. Cost: 1 forward for each placement.
    """
    patch = load("patch", file, digest)
    attack = Pasted(patch.pixels, patch.mask, placement, places, stride, offsets == "published", at, image)
    return attack if restarts == 1 else Restarts(attack, restarts)


def added(
    *,
    image: Place,
    file: Annotated[str | None, Option("The change, as `assay universal train` writes it.")] = None,
    digest: Digest = None,
) -> Method:
    """Return the attack that adds one trained change to every image, which has the size of `image` (height, width).

    Moosavi-Dezfooli et al. 2017. Cost: 1 forward.
    """
    return Added(load("universal", file, digest).change)


ADAPTIVE = "adaptive"
"""The attack whose parts a plan chooses, by what stands around the model."""


def adaptive(
    parts: Annotated[
        str | None, Option("The attacks that it is made of, joined by +; without it, what fits the model's defences.")
    ] = None,
) -> Method:
    """Return attacks one after the other that know the model's defences, each on the samples still standing.

    The parts are those that the table of defences names for what stands around the model, behind `cascade`, with
    gradients that are means where the model is random. Of a model without defences it is `cascade` alone. Cost: that of
    the parts.
    """
    made = {}
    for part in (parts or _UNDEFENDED).split("+"):
        given = parse_attack(part.strip())
        name = given.pop("attack")
        if name not in ATTACKS:
            raise BadInput(f"Unknown attack {name!r} in parts={parts!r}.{did_you_mean(name, ATTACKS)}")
        made[part.strip()] = (ATTACKS[name].norms, ATTACKS[name].build(name, given))
    norms = [norm for norm in NORMS_OF_BALLS if any(norm in fit for fit, _ in made.values())]
    choices = []
    for norm in norms:
        fit = {part: method for part, (works, method) in made.items() if norm in works}
        choices.append((norm, Cascade(tuple(fit.values()), tuple(fit))))
    return ByNorm(tuple(choices))


_UNDEFENDED = "cascade"
NORMS_OF_BALLS = ("linf", "l2", "l1")

STUDY_ATTACKS: Mapping[str, AttackEntry] = {
    **{name: dataclasses.replace(entry, more=OPTIONS) for name, entry in ATTACKS.items()},
    ADAPTIVE: AttackEntry(
        adaptive, 1, NORMS_OF_BALLS, "what fits the model's defences, the table of defences says", "this project",
        "composition", ("untargeted",), more=OPTIONS,
    ),
    "patch": AttackEntry(
        pasted, 1, ("l0",), "paste a trained patch; the budget counts the values it covers", "Brown et al. 2017",
        "label", paper_id="1712.09665", file=True,
    ),
    "universal": AttackEntry(
        added, 1, ("linf", "l2", "l1"), "add one trained change to every image", "Moosavi-Dezfooli et al. 2017",
        "transfer", paper_id="1610.08401", file=True,
    ),
}  # fmt: skip
"""What a study may name: the table of attacks, and the attacks that files hold."""

_NOTHING = AttackEntry(NoAttack, 1, ("linf",), "leave images as they are", "", "baseline")


def entry_of(name: str) -> AttackEntry:
    """Return the line of the table for an attack that a cell has."""
    return _NOTHING if name == UNATTACKED else STUDY_ATTACKS[name]


def _patch(path: Path) -> Any:
    # most studies name no file: the patch lab is not loaded for them
    from assay.patches.patch import Patch

    return Patch.load(path)


def _universal(path: Path) -> Any:
    from assay.patches.universal import Universal

    return Universal.load(path)


_FILES: Mapping[str, tuple[Callable[[Path], Any], str, str]] = {
    "patch": (_patch, "patch:file=toaster.safetensors (`assay patch train` makes one)", "patches"),
    "universal": (_universal, "universal:file=X.safetensors (`assay universal train`)", "perturbations"),
}


def load(name: str, file: str | None, digest: str | None) -> Any:
    """Return what the file of the attack called `name` holds.

    Raises `BadInput` where there is none, or another than `digest` says.
    """
    read, example, several = _FILES[name]
    if not file:
        raise BadInput(f"Attack {name!r} needs a file: {example}.")
    found = read(Path(file))
    if digest and found.digest != digest:
        raise BadInput(f"{file} is the {name} {found.digest}, expected {digest}. Leave {several} alone in a run.")
    return found


def parse_attack(text: str) -> dict[str, Any]:
    """Read `pgd:steps=40,restarts=2` as a study's `{attack: pgd, steps: 40, restarts: 2}`.

    The option's kind says what a value is; a text may hold commas. Raises `BadInput` for a part that is no
    `option=value`.
    """
    name, _, written = text.partition(":")
    name = name.strip()
    known = STUDY_ATTACKS[name].all_options if name in STUDY_ATTACKS else {}
    try:
        return {"attack": name, **read_options(written, known, f"--attack {text}")}
    except BadInput as error:
        raise BadInput(f"{error}; write for example pgd:steps=40,restarts=2.") from None


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `Misplaced` for an unknown attack, for an option that it cannot take, or for options at odds."""
    entry = _NOTHING if name == UNATTACKED else STUDY_ATTACKS.get(name)
    if entry is None:
        bare = str(name).split(":")[0]
        if bare in STUDY_ATTACKS:
            told = " Options stand beside the name here: {attack: " + bare + ", steps: 10}."
        else:
            told = did_you_mean(bare, STUDY_ATTACKS)
        raise Misplaced(("attack",), f"Unknown attack {name!r}.{told} There are: {', '.join(STUDY_ATTACKS)}.")
    known = entry.all_options
    given = {key: value for key, value in options.items() if key not in known or value != known[key].default}
    for option, value in given.items():
        try:
            entry.read(name, option, value)
        except BadInput as error:
            kind = Misplaced if option in {*known, *GENERIC, "keeps"} else UnknownKey
            raise kind((option,), str(error)) from error
    if entry.file:
        return
    try:
        entry.build(name, given)
    except BadInput as error:
        # of several options no single one is at fault
        raise Misplaced(tuple(given) if len(given) == 1 else (), str(error)) from error


def given_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change something, in the order of the table: equal attacks are written equally."""
    known = entry_of(name).all_options
    given = {option: _plain(option, value) for option, value in options.items()}
    return {option: given[option] for option in known if option in given and given[option] != known[option].default}


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
                if entry.build(name, given) == method:
                    return {"attack": name, **given}
    raise BadInput(f"{method!r} is no attack of the table. Name one of: {', '.join(ATTACKS)}.")


def _candidates(entry: AttackEntry, attack: Method) -> list[dict[str, Any]]:
    # a class says its options itself; of a composition only the words it chooses by can be tried
    if not is_attack(attack):
        words = {name: one.choices for name, one in entry.options.items() if one.kind is Kind.CHOICE}
        return [dict(zip(words, chosen, strict=True)) for chosen in itertools.product(*words.values())]
    if type(entry.make()) is not type(attack):
        return []
    return [{option: value for option, value in options_of(attack).items() if option != "keeps"}]


def norms_of(name: str) -> tuple[str, ...]:
    """Return the norms an attack works in."""
    return entry_of(name).norms


def resolved(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with what they depend on by content: the digest of a patch beside its file."""
    if not entry_of(name).file:
        return dict(options)
    return {**options, "digest": load(name, options.get("file"), options.get("digest")).digest}


def method_of(name: str, options: Mapping[str, Any], image: Place) -> Method:
    """Return the attack that a study names, for images of `image` (height, width) pixels; its surrogate apart."""
    entry = entry_of(name)
    return entry.build(name, options, **({"image": image} if entry.file else {}))


def check_goal_of(name: str, goal: str) -> None:
    """Raise `BadInput` for a goal, as a study writes it, that an attack cannot serve."""
    goals = entry_of(name).goals
    if goal.split()[0] not in goals:
        raise BadInput(f"{name} serves the goals {', '.join(goals)}, not {goal!r}")
