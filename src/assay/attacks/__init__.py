"""The attacks, in one visible table: name -> how to make it, what it needs, where it comes from."""

# shape: the table of all attacks stands in one place

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

from assay.attacks.alma import ALMA
from assay.attacks.apgd import apgd, apgd_targeted
from assay.attacks.autoattack import auto_attack, cascade
from assay.attacks.baselines import ContrastReduction, GaussianBlur, GaussianNoise, SaltAndPepper, UniformNoise
from assay.attacks.boundary import Boundary
from assay.attacks.carlini_wagner import carlini_wagner
from assay.attacks.ddn import DDN
from assay.attacks.deepfool import DeepFool, SuperDeepFool
from assay.attacks.ead import EAD
from assay.attacks.estimated import nes, spsa
from assay.attacks.fab import FAB, fab_targeted
from assay.attacks.fmn import FMN
from assay.attacks.generic import GENERIC, wrapped
from assay.attacks.gradient import BIM, FFGSM, FGSM, MIFGSM, PGD, RFGSM
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.jsma import JSMA
from assay.attacks.lbfgs import LBFGS
from assay.attacks.one_pixel import OnePixel
from assay.attacks.pdpgd import PDPGD
from assay.attacks.sigma_zero import SigmaZero
from assay.attacks.simba import simba
from assay.attacks.spatial import Spatial
from assay.attacks.square import Square
from assay.attacks.transfer import di_fgsm, si_fgsm, ti_fgsm, vmi_fgsm
from assay.core.compose import Method
from assay.core.errors import BadInput, did_you_mean
from assay.core.objective import parse_objective, written_objective
from assay.core.oracle import Access
from assay.core.search import Attack, Keeps

_BALLS = ("linf", "l2", "l1")

GOALS = ("untargeted", "targeted", "out-of-top")
FAMILIES = ("gradient", "minimum norm", "score", "label", "transfer", "composition", "baseline")


@dataclasses.dataclass(frozen=True)
class AttackEntry:
    """A line of the table. `version` is raised whenever the attack's results change: it is part of a cell's digest.

    `make` is a class of attacks, or a function that returns a composition; its arguments, all with defaults, are the
    options. `goals` are those that the attack can serve.
    """

    make: Callable[..., Method]
    version: int
    norms: tuple[str, ...]
    summary: str
    paper: str
    family: str
    goals: tuple[str, ...] = GOALS

    @property
    def access(self) -> Access:
        """What the attack needs to see of the model."""
        return self.make().access

    @property
    def options(self) -> dict[str, Any]:
        """The settings a user may change, with their defaults."""
        return {name: written_option(argument.default) for name, argument in self._arguments.items()}

    @property
    def general(self) -> Mapping[str, Any]:
        """The options of `GENERIC` that the attack takes, with the values at which they change nothing."""
        # one that looks for the smallest change by itself needs no bisection
        alone = self.make().keeps is Keeps.SMALLEST
        return {option: value for option, value in GENERIC.items() if not (alone and option == "smallest")}

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The values of those options that are one of a few words."""
        defaults = {name: argument.default for name, argument in self._arguments.items() if name != "keeps"}
        return {
            name: tuple(one.value for one in type(value)) for name, value in defaults.items() if isinstance(value, Enum)
        }

    def argument(self, option: str) -> Any:
        """Return the default of an option, as `make` takes it."""
        return self._arguments[option].default

    @property
    def _arguments(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.make).parameters


ATTACKS: Mapping[str, AttackEntry] = {
    "fgsm": AttackEntry(
        FGSM, 1, ("linf",), "one step along the sign of the gradient", "Goodfellow et al. 2015", "gradient"
    ),
    "fgm": AttackEntry(
        FGSM, 1, ("l2", "l1"), "one step along the gradient, of a given length", "Goodfellow et al. 2015", "gradient"
    ),
    "r-fgsm": AttackEntry(RFGSM, 1, ("linf",), "FGSM after a random step", "Tramer et al. 2018", "gradient"),
    "ffgsm": AttackEntry(
        FFGSM, 1, ("linf",), "FGSM from a uniform start, overlong step", "Wong et al. 2020", "gradient"
    ),
    "bim": AttackEntry(BIM, 1, _BALLS, "FGSM in small steps", "Kurakin et al. 2017", "gradient"),
    "pgd": AttackEntry(
        PGD, 1, _BALLS, "projected gradient descent from random starts", "Madry et al. 2018", "gradient"
    ),
    "mi-fgsm": AttackEntry(MIFGSM, 2, _BALLS, "iterated FGSM with momentum", "Dong et al. 2018", "transfer"),
    "ni-fgsm": AttackEntry(
        partial(MIFGSM, lookahead=True), 2, _BALLS, "momentum with a look ahead", "Lin et al. 2020", "transfer"
    ),
    "di-fgsm": AttackEntry(di_fgsm, 1, _BALLS, "momentum at randomly resized images", "Xie et al. 2019", "transfer"),
    "ti-fgsm": AttackEntry(
        ti_fgsm, 1, _BALLS, "momentum of gradients smoothed in space", "Dong et al. 2019", "transfer"
    ),
    "si-fgsm": AttackEntry(
        si_fgsm, 1, _BALLS, "momentum with a look ahead at darker copies", "Lin et al. 2020", "transfer"
    ),
    "vmi-fgsm": AttackEntry(
        vmi_fgsm, 1, _BALLS, "momentum corrected by the gradients around", "Wang and He 2021", "transfer"
    ),
    "apgd": AttackEntry(apgd, 1, _BALLS, "PGD that finds its own step size", "Croce and Hein 2020", "gradient"),
    "apgd-t": AttackEntry(
        apgd_targeted,
        1,
        _BALLS,
        "APGD towards each of the likeliest classes",
        "Croce and Hein 2020",
        "gradient",
        ("untargeted",),
    ),
    "deepfool": AttackEntry(
        DeepFool, 1, _BALLS, "onto the nearest linearised boundary", "Moosavi-Dezfooli et al. 2016", "minimum norm"
    ),
    "superdeepfool": AttackEntry(
        SuperDeepFool,
        2,
        _BALLS,
        "DeepFool, then along the boundary's normal",
        "Abdollahpoor et al. 2024",
        "minimum norm",
    ),
    "fab": AttackEntry(FAB, 2, _BALLS, "along the boundary towards the image", "Croce and Hein 2020b", "minimum norm"),
    "fab-t": AttackEntry(
        fab_targeted,
        2,
        _BALLS,
        "FAB towards each of the likeliest classes",
        "Croce and Hein 2020b",
        "minimum norm",
        ("untargeted",),
    ),
    "ddn": AttackEntry(DDN, 2, ("l2",), "direction and norm decoupled", "Rony et al. 2019", "minimum norm"),
    "fmn": AttackEntry(
        FMN, 2, (*_BALLS, "l0"), "projected steps into a ball that adapts", "Pintor et al. 2021", "minimum norm"
    ),
    "pdpgd": AttackEntry(
        PDPGD,
        2,
        _BALLS,
        "primal-dual descent, the norm by its proximal operator",
        "Matyasko et al. 2021",
        "minimum norm",
    ),
    "alma": AttackEntry(
        ALMA, 2, ("l2", "l1"), "distance under a constraint, augmented Lagrangian", "Rony et al. 2021", "minimum norm"
    ),
    "sigma-zero": AttackEntry(
        SigmaZero, 1, ("l0",), "a smooth count of values, lowered", "Cina et al. 2024", "minimum norm"
    ),
    "carlini-wagner": AttackEntry(
        carlini_wagner,
        1,
        ("l2", "linf", "l0"),
        "descent on size and hinged margin, searching for their weight",
        "Carlini and Wagner 2017",
        "minimum norm",
    ),
    "ead": AttackEntry(
        EAD, 1, ("l1", "l2"), "elastic net: small and few changes at once", "Chen et al. 2018", "minimum norm"
    ),
    "lbfgs": AttackEntry(
        LBFGS, 2, ("l2",), "box-constrained quasi-Newton descent", "Szegedy et al. 2014", "minimum norm"
    ),
    "jsma": AttackEntry(
        JSMA, 1, ("l0",), "pairs of values by the Jacobian's saliency map", "Papernot et al. 2016", "minimum norm"
    ),
    "square": AttackEntry(
        Square, 1, _BALLS, "random search with square-shaped changes", "Andriushchenko et al. 2020", "score"
    ),
    "nes": AttackEntry(
        nes, 1, ("linf", "l2"), "gradient steps, the gradient estimated by normal probes", "Ilyas et al. 2018", "score"
    ),
    "spsa": AttackEntry(
        spsa, 1, ("linf", "l2"), "Adam, the gradient estimated by probes of signs", "Uesato et al. 2018", "score"
    ),
    "simba": AttackEntry(
        simba, 1, ("linf", "l2"), "one basis direction after the other, forth or back", "Guo et al. 2019", "score"
    ),
    "one-pixel": AttackEntry(
        OnePixel, 1, ("l0",), "differential evolution of one or a few pixels", "Su et al. 2019", "score"
    ),
    "hop-skip-jump": AttackEntry(
        HopSkipJump, 1, ("l2", "linf"), "along the boundary, its slope from labels", "Chen et al. 2020", "label"
    ),
    "boundary": AttackEntry(Boundary, 1, ("l2",), "a random walk along the boundary", "Brendel et al. 2018", "label"),
    "autoattack": AttackEntry(
        auto_attack,
        2,
        _BALLS,
        "APGD, targeted APGD, targeted FAB and Square",
        "Croce and Hein 2020",
        "composition",
        ("untargeted",),
    ),
    "cascade": AttackEntry(
        cascade,
        5,
        _BALLS,
        "short attacks one after the other, in an eighth of AutoAttack's passes",
        "this project",
        "composition",
        ("untargeted",),
    ),
    "spatial": AttackEntry(
        Spatial,
        1,
        (*_BALLS, "l0"),
        "rotations and translations; give a budget that allows them",
        "Engstrom et al. 2019",
        "label",
    ),
    "gaussian-blur": AttackEntry(GaussianBlur, 1, _BALLS, "blur until the model errs", "baseline", "baseline"),
    "contrast-reduction": AttackEntry(
        ContrastReduction, 1, _BALLS, "fade to grey until the model errs", "baseline", "baseline"
    ),
    "salt-and-pepper": AttackEntry(
        SaltAndPepper, 1, (*_BALLS, "l0"), "black and white values until the model errs", "baseline", "baseline"
    ),
    "uniform-noise": AttackEntry(
        UniformNoise, 1, (*_BALLS, "l0"), "a random point of the ball", "baseline", "baseline"
    ),
    "gaussian-noise": AttackEntry(
        GaussianNoise, 1, (*_BALLS, "l0"), "a normal random point, projected", "baseline", "baseline"
    ),
}


def options_of(attack: Attack) -> dict[str, Any]:
    """Return an attack's settings by name, as plain values where they have a written form."""
    fields = dataclasses.fields(attack)  # type: ignore[arg-type]  # every attack is a dataclass
    return {field.name: written_option(getattr(attack, field.name)) for field in fields}


def build(name: str, **options: Any) -> Method:
    """Return the attack called `name` with the options given, its own and those of `GENERIC`.

    `restarts` wraps it in that many random starts; `smallest` gives the smallest budget at which it succeeds, by so
    many rounds of bisection. Raises `BadInput` for an unknown name or option, or a value of the wrong kind.
    """
    entry = ATTACKS.get(name)
    if entry is None:
        raise BadInput(f"Unknown attack {name!r}.{did_you_mean(name, ATTACKS)}  (assay attacks lists them)")
    known = entry.options
    # an attack's own option goes before one of all attacks
    generic = {option: options.pop(option) for option in GENERIC if option in options and option not in known}
    for option, value in options.items():
        if option not in known:
            listed = ", ".join(dict.fromkeys([*(one for one in known if one != "keeps"), *GENERIC]))
            near = did_you_mean(option, [*known, *GENERIC])
            raise BadInput(f"Attack {name!r} has no option {option!r}.{near} Its options: {listed}.")
        options[option] = _read(name, option, value, entry)
    return wrapped(name, entry.make(**options), generic)


def fitting(access: Access, norm: str | None = None) -> tuple[str, ...]:
    """Return the attacks that need no more than `access` of a model, in any norm or in one."""
    return tuple(
        name for name, entry in ATTACKS.items() if entry.access <= access and (norm is None or norm in entry.norms)
    )


def written_option(value: Any) -> Any:
    """Return an option's value as a study writes it."""
    if callable(value):
        return written_objective(value)
    return getattr(value, "value", value)


def _read(name: str, option: str, value: Any, entry: AttackEntry) -> Any:
    where, default = f"Attack {name!r}: {option} is {value!r}", entry.options[option]
    if option == "objective":
        if callable(value):
            return value
        try:
            return parse_objective(str(value))
        except BadInput as error:
            raise BadInput(f"Attack {name!r}: objective: {error}") from None
    if option == "keeps":
        raise BadInput(f"{where}; what is kept follows from the study's question (as_attacked or worst_case).")
    if option in entry.choices:
        return _chosen(where, value, entry, option)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise BadInput(f"{where}, expected true or false.")
    elif isinstance(default, int):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadInput(f"{where}, expected a whole number of 1 or more.")
    elif value is None and default is None:
        return None
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise BadInput(f"{where}, expected a number of 0 or more.")
    return value


def _chosen(where: str, value: Any, entry: AttackEntry, option: str) -> Enum:
    kind: type[Enum] = type(entry.argument(option))
    written, known = written_option(value), entry.choices[option]
    if written not in known:
        raise BadInput(f"{where}, expected one of {', '.join(known)}.{did_you_mean(str(written), known)}")
    return kind(written)
