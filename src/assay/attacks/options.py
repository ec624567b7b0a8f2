"""Options of attacks: what each means, which values it can have, and how a written value is read.

An attack states its options beside their types and defaults, `steps: Annotated[int, Option("Steps.")] = 40`;
`options_of_maker` reads the rest off both, so that kind and default stand in one place.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from assay.attacks.patch import Place
from assay.core.errors import BadInput, did_you_mean
from assay.core.objective import OBJECTIVES, Objective, parse_objective, written_objective


class Kind(enum.Enum):
    """What values an option has."""

    WHOLE = "whole number"
    NUMBER = "number"
    SWITCH = "true or false"
    CHOICE = "choice"
    OBJECTIVE = "objective"
    PLACE = "place"
    TEXT = "text"


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: `help` is a sentence, `unit` what a number counts.

    Numbers lie from `least` (1 for whole numbers, else 0) to `most`, which `above` and `below` exclude; `odd` leaves
    out even ones. Texts match the regular expression `pattern`. `expected` replaces the words of an error. The
    other fields are read off the attack; `optional` options may be None, which leaves the choice to the attack.
    """

    help: str
    unit: str = ""
    least: float | None = None
    most: float = math.inf
    above: bool = False
    below: bool = False
    odd: bool = False
    pattern: str = ""
    expected: str = ""
    kind: Kind = Kind.TEXT
    default: Any = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    convert: Callable[[Any], Any] | None = dataclasses.field(default=None, repr=False)

    def read(self, where: str, value: Any) -> Any:
        """Return a written value as the attack takes it. Raises `BadInput`, which begins with `where`."""
        if value is None and self.optional:
            return None
        if self.kind in (Kind.OBJECTIVE, Kind.PLACE) and self.convert:
            try:
                return self.convert(value)
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from None
        plain = written_option(value)
        if not self._takes(plain):
            near = did_you_mean(str(plain), self.choices) if self.choices else ""
            raise BadInput(f"{where} is {value!r}, expected {self.values}.{near}")
        return self.convert(plain) if self.convert else value

    def from_text(self, text: str) -> Any:
        """Return the written value that a command line means by `text`; `read` says whether it can be."""
        return scalar(text) if self.kind in (Kind.WHOLE, Kind.NUMBER, Kind.SWITCH) else text

    @property
    def values(self) -> str:
        """The values it can have, in words."""
        if self.expected:
            return self.expected
        match self.kind:
            case Kind.SWITCH | Kind.TEXT:
                return str(self.kind.value)
            case Kind.CHOICE:
                return f"one of {', '.join(self.choices)}"
            case Kind.OBJECTIVE:
                return f"one of {', '.join(OBJECTIVES)}, or cross_entropy/T"
            case Kind.PLACE:
                return "X,Y in pixels from the top left"
        share = self.unit.startswith("share") and math.isfinite(self.most)
        return f"a {self.unit if share else self.kind.value} {self._range(share)}"

    @property
    def default_text(self) -> str:
        """The default as a command line writes it, or `none`."""
        if self.default is None:
            return "none"
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        about = {"description": self.about, **({} if self.default is None else {"default": self.default})}
        match self.kind:
            case Kind.SWITCH:
                return {"type": "boolean", **about}
            case Kind.CHOICE:
                return {"enum": list(self.choices), **about}
            case Kind.OBJECTIVE:
                tempered = {"type": "string", "pattern": r"^cross_entropy/[0-9.]+(e[+-]?[0-9]+)?$"}
                return {"anyOf": [{"enum": list(OBJECTIVES)}, tempered], **about}
            case Kind.PLACE:
                return {"type": "string", "pattern": "^ *[0-9]+ *, *[0-9]+ *$", **about}
            case Kind.TEXT:
                return {"type": "string", **({"pattern": f"^{self.pattern}$"} if self.pattern else {}), **about}
        limits = {"exclusiveMinimum" if self.above else "minimum": self.least}
        if math.isfinite(self.most):
            limits["exclusiveMaximum" if self.below else "maximum"] = self.most
        even = {"not": {"multipleOf": 2}} if self.odd else {}
        return {"type": "integer" if self.kind is Kind.WHOLE else "number", **limits, **even, **about}

    def plain(self) -> dict[str, Any]:
        """Return what there is to say as plain values, for JSON; None where there is no bound."""
        return {
            "kind": self.kind.value,
            "default": self.default,
            "values": self.values,
            "least": self.least,
            "most": self.most if math.isfinite(self.most) else None,
            "choices": list(self.choices),
            "unit": self.unit,
            "help": self.help,
        }

    @property
    def about(self) -> str:
        """The sentence of help, with the unit."""
        return f"{self.help} ({self.unit})" if self.unit else self.help

    def _takes(self, value: Any) -> bool:
        match self.kind:
            case Kind.SWITCH:
                return isinstance(value, bool)
            case Kind.CHOICE:
                return value in self.choices
            case Kind.TEXT:
                return isinstance(value, str) and bool(not self.pattern or re.fullmatch(self.pattern, value))
        if isinstance(value, bool) or not isinstance(value, int if self.kind is Kind.WHOLE else (int, float)):
            return False
        least = 0 if self.least is None else self.least
        inside = least <= value <= self.most and math.isfinite(value)
        open_end = (self.above and value == least) or (self.below and value == self.most)
        return inside and not open_end and not (self.odd and value % 2 == 0)

    def _range(self, share: bool) -> str:
        bounded = math.isfinite(self.most)
        if self.below:
            return f"between {self.least:g} and {self.most:g}"
        if share and bounded and not self.above:
            return f"from {self.least:g} to {self.most:g}"
        low = f"above {self.least:g}" if self.above else f"of {self.least:g} or more"
        return f"{low}, at most {self.most:g}" if bounded else low


@functools.cache
def options_of_maker(make: Callable[..., Any]) -> Mapping[str, Option]:
    """Return the options that a class of attacks, or a function that makes one, states in its signature."""
    stating = make.func if isinstance(make, functools.partial) else make
    if isinstance(stating, type) and not dataclasses.is_dataclass(stating):
        stating = stating.__init__  # type: ignore[misc]  # the class itself is asked
    hints = inspect.get_annotations(stating, eval_str=True)
    return {
        name: _completed(stated, get_args(hints[name])[0], argument.default)
        for name, argument in inspect.signature(make).parameters.items()
        for stated in getattr(hints.get(name), "__metadata__", ())
        if isinstance(stated, Option)
    }


def check_options(attack: Any) -> None:
    """Raise `BadInput` for the first option of an attack, a dataclass, whose value it cannot have."""
    for name, option in options_of_maker(attack.__class__).items():
        option.read(name, getattr(attack, name))


def written_option(value: Any) -> Any:
    """Return an option's value as a study writes it."""
    if callable(value):
        return written_objective(value)
    return getattr(value, "value", value)


def parse_place(written: Any) -> Place | None:
    """Return the (row, column) of a place written `X,Y` (column, then row, in pixels from the top left); None for none.

    Raises `BadInput` for what is no such pair.
    """
    if written is None:
        return None
    parts = written.split(",") if isinstance(written, str) else written
    try:
        x, y = (int(part) for part in parts)
    except (TypeError, ValueError):
        raise BadInput(
            f"The place {written!r} is none; expected X,Y in pixels from the top left, such as 10,20."
        ) from None
    return y, x


def scalar(text: str) -> Any:
    """Return the truth value or number that `text` writes, or else the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_options(written: str, known: Mapping[str, Option], where: str) -> dict[str, Any]:
    """Return the values that `steps=40,restarts=2` writes, in its order; `known` say what kind each is.

    A text may hold commas. Raises `BadInput`, which begins with `where`, for a part that is no `option=value`.
    """
    given: dict[str, str] = {}
    last = ""
    for part in written.split(",") if written.strip() else ():
        option, equals, value = part.partition("=")
        if not equals and last in known and known[last].kind in (Kind.TEXT, Kind.PLACE):
            given[last] += f",{part}"
            continue
        if not equals or not option.strip():
            raise BadInput(f"{where}: {part!r} is no option=value")
        last = option.strip()
        given[last] = value
    values = {key: value.strip() for key, value in given.items()}
    return {key: known[key].from_text(value) if key in known else scalar(value) for key, value in values.items()}


def _objective(value: Any) -> Objective:
    return value if callable(value) else parse_objective(str(value))


def _completed(stated: Option, hint: Any, default: Any) -> Option:
    among = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    one = next(kind for kind in among if kind is not type(None))
    choices: tuple[str, ...] = ()
    convert: Callable[[Any], Any] | None = None
    if one in _KINDS:
        kind = _KINDS[one]
    elif isinstance(one, type) and issubclass(one, enum.Enum):
        kind, choices, convert = Kind.CHOICE, tuple(member.value for member in one), one
    elif get_origin(one) is Literal:
        kind, choices = Kind.CHOICE, get_args(one)
    else:
        place = get_origin(one) is tuple
        kind, convert = (Kind.PLACE, parse_place) if place else (Kind.OBJECTIVE, _objective)
    least = stated.least
    if least is None and kind in (Kind.WHOLE, Kind.NUMBER):
        least = 1 if kind is Kind.WHOLE else 0
    return dataclasses.replace(
        stated, kind=kind, least=least, default=written_option(default), choices=choices,
        optional=type(None) in among, convert=convert,
    )  # fmt: skip


_KINDS: Mapping[Any, Kind] = {bool: Kind.SWITCH, int: Kind.WHOLE, float: Kind.NUMBER, str: Kind.TEXT}

# options that several attacks share
Steps = Annotated[int, Option("Steps of the search, one look each.", "looks")]
StepSize = Annotated[float | None, Option("Length of a step; without it the attack chooses.", "budgets")]
Climbed = Annotated[Objective, Option("What is climbed.")]
Decay = Annotated[float, Option("The share of the momentum that is kept from step to step.")]
Queries = Annotated[int, Option("Queries per sample at most, all included.", "forward passes")]
Targets = Annotated[int, Option("How many of the likeliest wrong classes are attacked as targets.", "classes")]
Classes = Annotated[int, Option("How many of the highest other classes a step considers.", "classes")]
RandomStart = Annotated[bool, Option("Whether to begin at a random point.")]
Inner = Annotated[int, Option("Steps of a round.", "looks")]
Rounds = Annotated[int, Option("Rounds at most; each tries another weight of the objective.", "rounds")]
Kappa = Annotated[float, Option("How far beyond the boundary the search aims: the confidence.", "logits")]
FirstWeight = Annotated[float | None, Option("First weight of the objective; without it both terms balance.")]
Tries = Annotated[int, Option("Noise images that are tried as a start.", "forward passes")]
Smoothness = Annotated[float, Option("Preference for directions of low frequency; 0 is the paper's choice.")]
