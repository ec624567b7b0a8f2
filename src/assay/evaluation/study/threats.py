"""How a study writes a threat: a norm, its budgets, and where values may change."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from assay.core.budget import NORMALIZED, Budget, check_budget, parse_budget
from assay.core.errors import BadInput, did_you_mean
from assay.core.norms import THREAT_NORMS
from assay.core.threat import threat_in
from assay.core.ycbcr import NAMES, Components
from assay.evaluation.study.errors import Misplaced


def as_list(value: Any) -> Any:
    """Return a list of what may be one thing or several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _as_budget(value: Any) -> Budget:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Budget)):
        raise BadInput(f"{value!r} is not a budget. Write one as '8/255', 0.031 or 'normalized 0.02'.")
    return parse_budget(value)


def _as_channels(value: Any) -> Any:
    return value if value is None else as_list(value)


def _as_components(value: Any) -> Any:
    return value if value is None else Components.of(value).weights


def one_or_more(item: Any) -> Any:
    """Return a validator that reads one `item` as a list of it; the schema allows both."""
    several: Any = list
    return BeforeValidator(as_list, json_schema_input_type=item | Annotated[several[item], Field(min_length=1)])


_WRITTEN = WithJsonSchema(
    {
        "description": "A budget: '8/255', 0.031 (pixels in [0, 1]) or 'normalized 0.02' (the model's own units).",
        "anyOf": [
            {"type": "number", "minimum": 0},
            {
                "type": "string",
                "pattern": r"^((normalized|pixel) +)?\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?( */ *\d+(\.\d*)?)?$",
            },
        ],
    }
)
_Budget = Annotated[Budget, BeforeValidator(_as_budget, json_schema_input_type=Annotated[Any, _WRITTEN])]
_Channel = Annotated[StrictInt, Field(ge=0)]


class ThreatSpec(BaseModel):
    """A norm and its budgets, smallest first; all in one unit.

    Only the values of a `mask` (a file, or a folder with one per sample) and of the `channels` (from 0) may change,
    where they are given. A plan adds the digest of the mask's content and the share of the values that may change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: str = Field(json_schema_extra={"enum": list(THREAT_NORMS)})
    eps: Annotated[tuple[_Budget, ...], one_or_more(_Budget)]
    box: bool = Field(True, description="Whether images stay in [0, 1].")
    grid: StrictInt | None = Field(None, ge=1, description="255 makes every judged image an 8-bit one.")
    mask: str | None = Field(
        None,
        min_length=1,
        description="Where values may change: a picture, a .npy file, or a folder with one per sample.",
    )
    channels: Annotated[
        tuple[_Channel, ...] | None,
        BeforeValidator(_as_channels, json_schema_input_type=_Channel | list[_Channel] | None),
    ] = Field(None, description="The channels that may change, numbered from 0.")
    components: Annotated[tuple[float, ...] | None, BeforeValidator(_as_components)] = Field(
        None, description="Of norm ycbcr: the shares of eps by which Y, Cb and Cr may change, [1, 0, 0] by default."
    )
    mask_digest: str | None = None
    mask_share: float | None = None

    @field_validator("norm")
    @classmethod
    def _known_norm(cls, norm: str) -> str:
        if norm not in THREAT_NORMS:
            near, all_ = did_you_mean(norm, THREAT_NORMS), ", ".join(THREAT_NORMS)
            raise BadInput(f"Unknown norm {norm!r}.{near} There are: {all_}.")
        return norm

    @model_validator(mode="after")
    def _budgets_of_the_norm(self) -> ThreatSpec:
        if not self.eps:
            raise Misplaced(("eps",), "there is no budget. Write one or more, such as [2/255, 4/255, 8/255].")
        seen: dict[float, Budget] = {}
        for i, budget in enumerate(self.eps):
            try:
                check_budget(budget, self.norm)
            except BadInput as error:
                raise Misplaced(("eps", i), str(error)) from error
            if math.isinf(budget.value):
                raise Misplaced(("eps", i), "the budget is infinite; attacks of a given size need a number.")
            if budget.unit != self.eps[0].unit:
                told = f"{budget.written!r} and {self.eps[0].written!r} are in different units"
                raise Misplaced(("eps", i), f"{told}. Write them as two threats.")
            if budget.value in seen:
                told = f"{budget.written!r} is the same budget as {seen[budget.value].written!r}"
                raise Misplaced(("eps", i), f"{told}. Leave one out.")
            seen[budget.value] = budget
        if self.channels is not None:
            if not self.channels or len(set(self.channels)) < len(self.channels):
                told = "expected the numbers of the channels that may change, from 0 and each once, such as [3]"
                raise Misplaced(("channels",), f"{list(self.channels)}: {told}.")
            object.__setattr__(self, "channels", tuple(sorted(self.channels)))
        self._check_colours()
        # frozen towards users, and not yet handed out: smallest first is what sweeps and readers expect
        object.__setattr__(self, "eps", tuple(sorted(self.eps, key=lambda b: b.value)))
        return self

    def _check_colours(self) -> None:
        written = None if self.components is None else Components.of(self.components)
        try:
            threat = threat_in(self.norm, grid=self.grid, components=written)
        except BadInput as error:
            raise Misplaced(("components",), str(error)) from error
        if threat.components is None:
            return
        if self.channels is not None:
            told = f"a change of {', '.join(NAMES[:-1])} or {NAMES[-1]} changes several channels"
            raise Misplaced(("channels",), f"{list(self.channels)}: {told}. Leave them out, or write norm linf.")
        if self.eps[0].unit == NORMALIZED:
            raise Misplaced(
                ("eps",), f"{self.eps[0].written!r}: budgets in YCbCr are in pixels, such as 8/255 or 0.002."
            )
        object.__setattr__(self, "components", threat.components.weights)

    @property
    def label(self) -> str:
        """The threat in the records: `linf`, or `linf no-box grid=255` where it is not the usual one."""
        colours = self.components and self.components != Components().weights
        shares = f" components={','.join(f'{one:g}' for one in self.components or ())}" if colours else ""
        plain = self.norm + shares + ("" if self.box else " no-box") + (f" grid={self.grid}" if self.grid else "")
        return " ".join([plain, *self._where()])

    def masking(self) -> dict[str, Any]:
        """Return what limits which values may change, as plain values; nothing where nothing does."""
        told = self.model_dump(mode="json", include={"mask", "channels", "components", "mask_digest", "mask_share"})
        return {name: value for name, value in told.items() if value is not None}

    def _where(self) -> list[str]:
        share = "" if self.mask_share is None else f"({100 * self.mask_share:.3g}%)"
        channels = ",".join(map(str, self.channels or ()))
        mask = [f"mask={'_'.join(PurePath(self.mask).name.split())}{share}"] if self.mask else []
        return mask + ([f"channels={channels}"] if channels else [])
