"""The gate of a study: what its numbers must reach, row by row, as a study writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from assay.core.budget import Budget, parse_budget
from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.study.errors import Misplaced
from assay.statistics import CONFIDENCE
from assay.vocabulary import Norm

BASELINE = "baseline"
EVERY_CLASS = "*"
ANY_VERDICT = "any"

_LIMIT = re.compile(r"^(?:>=|≥|at least)\s*(\d+\.?\d*|\.\d+)\s*(%?)$")
_CHANGE = re.compile(r"^not worse by more than\s+(\d+\.?\d*|\.\d+)\s*(?:percentage\s+)?points?$")
_WANTED = "Write '>= 40 %', or beside 'against: baseline' 'not worse by more than 1 point'"


class Wanted(NamedTuple):
    """What a number must reach: at least a `share`, or where it is a change, at most `share` less than before."""

    share: float
    change: bool


def parse_wanted(text: Any) -> Wanted:
    """Read '>= 40 %' or 'not worse by more than 1 point'. Raises `BadInput` for anything else."""
    plain = " ".join(str(text).split())
    if (found := _CHANGE.match(plain)) is not None:
        margin = float(found[1]) / 100
        if not 0 < margin < 1:
            raise BadInput(
                f"{plain!r}: the margin is {found[1]} points, expected more than 0 and less than 100. No number of "
                "images shows that nothing at all changed; write 'not worse by more than 1 point'."
            )
        return Wanted(margin, True)
    if plain == "not worse":
        raise BadInput("'not worse' has no margin, and no number of images shows that nothing at all changed. "
                       "Write 'not worse by more than 1 point'.")  # fmt: skip
    if (found := _LIMIT.match(plain)) is None:
        raise BadInput(f"{text!r} is no limit. {_WANTED}.")
    share = float(found[1]) / (100 if found[2] else 1)
    if not found[2] and share >= 1:
        raise BadInput(f"{plain!r} is {found[1]} times all images. Did you mean '>= {found[1]} %'?")
    if not 0 < share < 1:
        told = "every number reaches it" if share == 0 else "no number of images shows it"
        raise BadInput(f"{plain!r}: expected a limit between 0 % and 100 %; {told}.")
    return Wanted(share, False)


class ThreatFilter(NamedTuple):
    """Which threats a row is about: words of their label, the norm first, and a budget where one is named."""

    words: tuple[str, ...]
    budget: Budget | None


def parse_threat(text: str) -> ThreatFilter:
    """Read 'linf', 'linf 4/255' or 'linf grid=255 normalized 0.5'. Raises `BadInput` for an unknown norm."""
    words = text.split()
    norm = words[0].lower() if words else ""
    if norm not in tuple(Norm):
        near = did_you_mean(norm, tuple(Norm))
        raise BadInput(f"{text!r} names no norm.{near} Write 'linf 4/255'; norms: {', '.join(Norm)}.")
    for start in range(1, len(words)):
        try:
            return ThreatFilter((norm, *words[1:start]), parse_budget(" ".join(words[start:])))
        except BadInput:
            continue
    return ThreatFilter((norm, *words[1:]), None)


def _wanted(value: Any) -> Any:
    if value is not None:
        parse_wanted(value)
        return " ".join(str(value).split())
    return value


def _threat(value: Any) -> Any:
    if value is None:
        return value
    if not isinstance(value, str):
        raise BadInput(f"{value!r} is no threat. Write 'linf 4/255'.")
    parse_threat(value)
    return " ".join(value.split())


def _class(value: Any) -> Any:
    # a class may be named by its number
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _confidence(value: Any) -> Any:
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if isinstance(value, bool) or not 0.5 <= share < 1:
        raise BadInput(f"{value!r} is no confidence: expected 50 % or more and less than 100 %, such as '95 %'.")
    return share


_WANTED_SCHEMA = Annotated[str, Field(pattern=r"^((>=|≥|at least) *[0-9.]+ *%?|not worse by more than +[0-9.]+ +.*)$")]
_Number = Annotated[str | None, BeforeValidator(_wanted, json_schema_input_type=_WANTED_SCHEMA | None)]
_Filter = Annotated[str | None, Field(min_length=1)]


class GateRow(BaseModel):
    """One condition: a number or a verdict, which of the run's it is about, and how sure the answer must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    robust_accuracy: _Number = Field(
        None, description="'>= 40 %', or against a baseline 'not worse by more than 1 point'."
    )
    clean_accuracy: _Number = Field(None, description="The same of the accuracy without any attack.")
    verdict: Literal["trusted", "not refuted", "any"] | None = Field(
        None,
        description="What an audit must say of the robust accuracy; alone, of every one. 'any' beside a limit: it may "
        "be met without an audit.",
    )
    threat: Annotated[str | None, BeforeValidator(_threat)] = Field(
        None, description="A norm, or a norm and a budget: 'linf 4/255'. Without it every budget above 0."
    )
    model: _Filter = Field(None, description="The models it is about, by name or pattern: 'zoo:*'.")
    data: _Filter = Field(None, description="The data it is about, by name or pattern.")
    attack: _Filter = Field(
        None, description="The number of this attack alone ('pgd*'), instead of the worst case over all."
    )
    goal: _Filter = Field(None, description="The goal of the attacks it is about (untargeted).")
    class_: Annotated[str | None, BeforeValidator(_class)] = Field(
        None, alias="class", min_length=1, description="A class by name or number, or '*': each class by itself."
    )
    against: Literal["baseline"] | None = Field(None, description="Compare with an earlier run, image by image.")
    confidence: Annotated[float, BeforeValidator(_confidence, json_schema_input_type=str | float)] = Field(
        CONFIDENCE, description="How sure the answer must be: '95 %'."
    )

    @model_validator(mode="after")
    def _one_condition(self) -> GateRow:
        numbers = [name for name in ("robust_accuracy", "clean_accuracy") if getattr(self, name) is not None]
        if len(numbers) > 1:
            raise Misplaced(("clean_accuracy",), "a row is about one number. Write two rows.")
        if not numbers and self.verdict is None:
            raise BadInput("the row asks for nothing. Write robust_accuracy: '>= 40 %', clean_accuracy or verdict.")
        if not numbers:
            if self.verdict == ANY_VERDICT:
                raise Misplaced(("verdict",), "'any' asks for nothing by itself. Write it beside robust_accuracy.")
            self._refuse("class", "against", because="goes with robust_accuracy or clean_accuracy, not with a verdict")
            return self
        if numbers == ["clean_accuracy"]:
            self._refuse(
                "threat", "attack", "goal", "verdict", because="says nothing of the accuracy without an attack"
            )
        wanted = self.wanted
        assert wanted is not None, "there is a number"
        if wanted.change and self.against is None:
            raise Misplaced((numbers[0],), f"{self.written!r} needs 'against: baseline' beside it.")
        if self.against is not None and not wanted.change:
            raise Misplaced((numbers[0],), f"{self.written!r} is no change. {_WANTED}.")
        return self

    def _refuse(self, *names: str, because: str) -> None:
        for name in names:
            if getattr(self, "class_" if name == "class" else name) is not None:
                raise Misplaced((name,), f"{name} {because}. Leave it out.")

    @property
    def written(self) -> str:
        """What the number must reach, as written; nothing in a row about a verdict alone."""
        return self.robust_accuracy or self.clean_accuracy or ""

    @property
    def wanted(self) -> Wanted | None:
        """What the number must reach; None in a row about a verdict alone."""
        return parse_wanted(self.written) if self.written else None

    @property
    def threat_filter(self) -> ThreatFilter | None:
        """Which threats it is about; None for all."""
        return None if self.threat is None else parse_threat(self.threat)

    def plain(self) -> dict[str, Any]:
        """Return the row as a study writes it."""
        told: Mapping[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        usual = {"confidence"} if self.confidence == CONFIDENCE else set()
        return {name: value for name, value in told.items() if name not in usual}

    @property
    def text(self) -> str:
        """The row in one line: `robust_accuracy >= 40 %, threat linf 4/255, verdict trusted`."""
        told = self.plain()
        if "confidence" in told:
            told["confidence"] = f"{100 * self.confidence:g} %"
        return ", ".join(f"{name} {value}" for name, value in told.items())


ROW_KEYS = tuple(field.alias or name for name, field in GateRow.model_fields.items())
"""What a row may hold."""


def rows_alone(raw: Any) -> tuple[GateRow, ...] | None:
    """Return the rows of a gate as a study writes it, without the rest of the study; None where anything is wrong.

    Reading the whole study tells what; it takes the table of attacks, and with it torch.
    """
    rows = raw if isinstance(raw, list) else [raw]
    try:
        return tuple(GateRow.model_validate(row) for row in rows) or None
    except (ValidationError, BadInput):
        return None
