"""The typed study: which models meet which attacks, on which data, under which threats.

Written in YAML or built in Python; either way every slip is named with its place, what was expected, and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)

from assay.attacks import AttackEntry
from assay.core.errors import BadInput
from assay.data.corruption import take_view
from assay.evaluation.study.attacks import STUDY_ATTACKS, check_goal_of, check_options, given_options, norms_of
from assay.evaluation.study.certify import Certify, CertifySpec
from assay.evaluation.study.corruptions import CorruptionsSpec, lifted
from assay.evaluation.study.errors import Misplaced, Places, explain
from assay.evaluation.study.gate import ROW_KEYS, GateRow
from assay.evaluation.study.goal_words import check_goal
from assay.evaluation.study.judge import check_judge
from assay.evaluation.study.threats import ThreatSpec, as_list, one_or_more
from assay.models.remote.address import refuse_secrets
from assay.models.spec import without_limits
from assay.vocabulary import PREDICTED_LABELS, UNATTACKED

GRID_KEYS = (
    "models", "data", "threats", "attacks", "question", "goal", "order", "seed", "chunk", "certify", "corruptions",
    "judge",
)  # fmt: skip

_STRICT = ConfigDict(frozen=True, extra="forbid")


def _off(value: Any) -> Any:
    # an unquoted off is a truth value in YAML
    return "off" if value is False else value


def _lifted(key: str, long: Any) -> Any:
    """Return a validator that reads the short form (`"mnist/test"`) as the long one (`{source: mnist/test}`)."""

    def lift(value: Any) -> Any:
        return {key: value} if isinstance(value, str) else value

    return BeforeValidator(lift, json_schema_input_type=str | long)


class ModelSpec(BaseModel):
    """A model by its spec, and what it returns."""

    model_config = _STRICT

    model: str = Field(min_length=1)
    outputs: Literal["logits", "probabilities"] = "logits"
    like: str | None = Field(
        None, min_length=1,
        description="A model from which it takes what its own name leaves open: class names, how pictures come to "
        "its size, the unit of normalised budgets. A judge takes it from the model that it judges for.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _without_secrets(self) -> ModelSpec:
        for name in (self.model, self.like):
            refuse_secrets(name or "")
        return self

    @property
    def label(self) -> str:
        """The model in the records; what an endpoint may be asked is no part of its name."""
        name = without_limits(self.model)
        return name if self.outputs == "logits" else f"{name} ({self.outputs})"


class DataSpec(BaseModel):
    """A data set by its source, and which of its samples."""

    model_config = _STRICT

    source: str = Field(min_length=1)
    limit: StrictInt | None = Field(None, ge=1, description="The first so many samples.")
    sample: StrictInt | None = Field(None, ge=1, description="So many samples, drawn evenly over the classes.")
    per_class: StrictInt | None = Field(None, ge=1, description="So many samples of each class.")
    ids: tuple[str, ...] | None = Field(None, min_length=1)
    seed: StrictInt = 0
    part: str | None = Field(
        None,
        pattern=r"^(held-out|rest) [1-9][0-9]*$",
        description="'held-out 500': so many samples, evenly over the classes; 'rest 500': all others.",
    )
    labels: Literal["predicted"] | None = Field(None, description="The model's own answers are the labels.")

    @property
    def label(self) -> str:
        """The data in the records: the source, and where labels are the model's own answers, that."""
        return f"{self.source} {PREDICTED_LABELS}" if self.labels else self.source

    @property
    def original(self) -> str:
        """The label of the data that these are a corruption of; their own where they are none."""
        return self.model_copy(update={"source": take_view(self.source)[0]}).label


def _describe_attacks(schema: dict[str, Any]) -> None:
    """Replace the schema of an attack by what a study writes: a name, or a name with its options beside it."""
    named = [name for name, entry in STUDY_ATTACKS.items() if not entry.file]
    schema.clear()
    schema["anyOf"] = [{"enum": named}, *(_attack_schema(name, entry) for name, entry in STUDY_ATTACKS.items())]


def _attack_schema(name: str, entry: AttackEntry) -> dict[str, Any]:
    described = {"const": name, "description": f"{entry.summary} ({entry.paper})"}
    return {
        "type": "object",
        "properties": {"attack": described, **{key: one.schema() for key, one in entry.all_options.items()}},
        "required": ["attack", "file"] if entry.file else ["attack"],
        "additionalProperties": False,
    }


class AttackSpec(BaseModel):
    """An attack by its name in the table of attacks, with the options that differ from its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_describe_attacks)

    attack: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return {"attack": value}
        if set(value) == {"attack", "options"} and isinstance(value["options"], Mapping):
            return value
        return {"attack": value.get("attack"), "options": {k: v for k, v in value.items() if k != "attack"}}

    @model_validator(mode="after")
    def _known_attack(self) -> AttackSpec:
        check_options(self.attack, self.options)
        object.__setattr__(self, "options", given_options(self.attack, self.options))
        return self

    @property
    def label(self) -> str:
        """The attack in the records: `fgsm`, `pgd(steps=10)`."""
        # of a file its name: where it lies changes nothing, and its digest is in the cell
        told = {**self.options, **({"file": PurePath(self.options["file"]).stem} if "file" in self.options else {})}
        silent = {name for name in told if "digest" in name or name == "pushed"}
        inside = ", ".join(f"{name}={value}" for name, value in told.items() if name not in silent)
        return f"{self.attack}({inside})" if inside else self.attack


_Model = Annotated[ModelSpec, _lifted("model", ModelSpec)]
_Source = Annotated[DataSpec, _lifted("source", DataSpec)]
_CORRUPTIONS: Any = str | list[str] | CorruptionsSpec
_GOAL = Annotated[str, Field(pattern="^(untargeted|targeted +.+|out-of-top +[1-9][0-9]*)$")]


class Grid(BaseModel):
    """Every model with every data set, threat and attack, under one question."""

    model_config = _STRICT

    models: Annotated[tuple[_Model, ...], one_or_more(_Model)] = Field(min_length=1)
    data: Annotated[tuple[_Source, ...], one_or_more(_Source)] = Field(min_length=1)
    threats: Annotated[tuple[ThreatSpec, ...], one_or_more(ThreatSpec)] = Field(min_length=1)
    attacks: Annotated[tuple[AttackSpec, ...], one_or_more(AttackSpec)] = Field(min_length=1)
    question: Literal["worst_case", "as_attacked"] = Field(
        "worst_case",
        description="worst_case: robust accuracy; only survivors go on. as_attacked: one attack alone.",
    )
    goal: Annotated[str, BeforeValidator(check_goal, json_schema_input_type=_GOAL)] = "untargeted"
    order: Literal["ascending", "descending"] = Field(
        "ascending", description="How a worst case walks through the budgets; descending takes fewer passes."
    )
    seed: StrictInt = 0
    chunk: StrictInt | None = Field(None, ge=1, description="Samples that are done and stored together.")
    certify: Certify = CertifySpec()
    judge: Annotated[ModelSpec | None, _lifted("model", ModelSpec)] = Field(
        None, description="A model that judges the images made on the models, such as the file that is deployed."
    )
    corruptions: Annotated[
        CorruptionsSpec | None, BeforeValidator(lifted, json_schema_input_type=_CORRUPTIONS | None)
    ] = Field(None, description="Corruptions of the data, besides the attacks or alone: standard, all, or names.")

    @model_validator(mode="before")
    @classmethod
    def _unattacked(cls, value: Any) -> Any:
        """Let a grid of corruptions go without attacks and threats, and one of certificates without attacks."""
        if not isinstance(value, Mapping) or "attacks" in value:
            return value
        if value.get("certify") is not None and "threats" in value:
            return {**value, "attacks": [UNATTACKED]}
        if value.get("corruptions") is None or "threats" in value:
            return value
        return {**value, "threats": [{"norm": "linf", "eps": 0}], "attacks": [UNATTACKED]}

    @model_validator(mode="after")
    def _cells_that_exist(self) -> Grid:
        for i, attack in enumerate(self.attacks):
            if attack.attack == UNATTACKED:
                if self.corruptions is None and not self.certify.methods:
                    told = "Name one, or write certify: crown, or corruptions: standard"
                    raise Misplaced(("attacks", i), f"none is no attack. {told}.")
                continue
            for threat in self.threats:
                if threat.norm not in norms_of(attack.attack):
                    told = f"{attack.attack} works in {', '.join(norms_of(attack.attack))}, not in {threat.norm}"
                    raise Misplaced(("attacks", i), f"{told}. Give each norm its attacks, in grids of their own.")
            try:
                check_goal_of(attack.attack, self.goal)
            except BadInput as error:
                raise Misplaced(("attacks", i), f"{error}. Leave the attack out, or change the goal.") from error
            if attack in self.attacks[:i]:
                raise Misplaced(("attacks", i), f"{attack.label} is there already. Leave one out.")
        return self

    @model_validator(mode="after")
    def _a_judge_of_its_own(self) -> Grid:
        if self.judge is not None:
            check_judge(self.judge, self.models, self.attacks, self.data, self.goal)
        return self

    @property
    def attacked(self) -> bool:
        """Whether anything is attacked, rather than corrupted alone."""
        return any(attack.attack != UNATTACKED for attack in self.attacks)


class Study(BaseModel):
    """A named list of grids. `Study.of(mapping)` reads the written form; a plain study has one grid."""

    model_config = _STRICT

    study: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The study's name, and that of its run directory."
    )
    audit: Annotated[
        Literal["off", "quick", "standard", "thorough"],
        BeforeValidator(_off, json_schema_input_type=Literal["off", "quick", "standard", "thorough", False]),
    ] = Field(
        "quick",
        description="How closely robust numbers are audited: quick leaves 5 points unseen, standard 2, thorough 0.",
    )
    gate: Annotated[tuple[GateRow, ...], one_or_more(GateRow)] = Field(
        (), description="What the numbers must reach, row by row: assay gate answers met, missed or cannot tell."
    )
    grids: tuple[Grid, ...] = Field(
        min_length=1, description="Several grids; each takes the keys it lacks from the top."
    )

    @classmethod
    def of(cls, raw: Mapping[str, Any], places: Places | None = None) -> Study:
        """Read a study from plain values.

        Raises `BadInput` with one line per slip: its place in the file where `places` knows it, its path, what was
        expected, and the fix.
        """
        if not isinstance(raw, Mapping):
            raise BadInput(f"A study is a mapping with the keys study, {', '.join(GRID_KEYS)}; got {raw!r}.")
        try:
            return cls.model_validate(_with_grids(raw))
        except ValidationError as error:
            raise explain(error, raw, places or Places(), _KEYS) from None

    def plain(self) -> dict[str, Any]:
        """Return the resolved study as plain values; `Study.of` reads them back to an equal study."""
        # the usual audit goes without saying
        audit = {} if self.audit == "quick" else {"audit": self.audit}
        gate = {"gate": [row.plain() for row in self.gate]} if self.gate else {}
        return {"study": self.study, **audit, **gate, "grids": [_plain_grid(grid) for grid in self.grids]}


_KEYS: Mapping[str, Sequence[str]] = {
    "models": tuple(ModelSpec.model_fields),
    "data": tuple(DataSpec.model_fields),
    "threats": tuple(ThreatSpec.model_fields),
    "grids": tuple(Grid.model_fields),
    "corruptions": tuple(CorruptionsSpec.model_fields),
    "judge": tuple(ModelSpec.model_fields),
    "gate": ROW_KEYS,
    "": ("study", "audit", *GRID_KEYS, "grids", "gate"),
}


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study file, for editors that complete and check it."""
    schema = Study.model_json_schema()
    grid = schema["$defs"]["Grid"]
    # what a grid needs may stand at the top, which then is the only grid or what all grids share
    del grid["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Assay study",
        "properties": {**schema["properties"], **grid["properties"]},
        "required": ["study"],
    }


def _with_grids(raw: Mapping[str, Any]) -> dict[str, Any]:
    top = dict(raw)
    if "grids" not in top:
        # keys that a study does not know stay at the top, to be refused there
        inside = {key: top.pop(key) for key in GRID_KEYS if key in top}
        return {**top, "grids": [inside]}
    inherited = {key: top.pop(key) for key in GRID_KEYS if key in top}
    top["grids"] = [{**inherited, **grid} if isinstance(grid, Mapping) else grid for grid in as_list(top["grids"])]
    return top


def _plain_grid(grid: Grid) -> dict[str, Any]:
    apart = {"threats", "attacks", "certify", "corruptions"}
    plain = grid.model_dump(mode="json", exclude_none=True, exclude=apart)
    corruptions = {} if grid.corruptions is None else {"corruptions": grid.corruptions.plain()}
    # the usual way goes without saying
    certify = {} if grid.certify == CertifySpec() else {"certify": grid.certify.plain()}
    if not grid.attacked and not grid.certify.methods:
        return {**plain, **corruptions}
    plain["threats"] = [
        {
            **threat.model_dump(mode="json", include={"norm", "box", "grid"}),
            **threat.masking(),
            "eps": [budget.written for budget in threat.eps],
        }
        for threat in grid.threats
    ]
    if grid.attacked:
        plain["attacks"] = [{"attack": attack.attack, **attack.options} for attack in grid.attacks]
    return {**plain, **certify, **corruptions}


__all__ = [
    "GRID_KEYS",
    "AttackSpec",
    "DataSpec",
    "Grid",
    "ModelSpec",
    "Study",
    "ThreatSpec",
]
