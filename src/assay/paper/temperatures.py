"""What the temperature of distillation does: rows as they are measured, kept in a file, and printed in the docs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any


@dataclasses.dataclass(frozen=True)
class TemperatureRow:
    """One student of distillation at `temperature`, measured on the test images in eval mode.

    `fgsm` is the accuracy under FGSM by budget (pixels in [0, 1]), `at_temperature` the same on the loss of
    `logits / temperature`. `zero` is the share of float32 gradients that are exactly zero, `gaps` are quantiles of the
    gap between the two highest logits. All shares are fractions.
    """

    temperature: float
    seed: int
    clean: float
    fgsm: Mapping[float, float]
    at_temperature: Mapping[float, float]
    zero: float
    gaps: Mapping[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold; `from_dict` gives the row back."""
        return {
            name: {repr(key): number for key, number in value.items()} if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
        }

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> TemperatureRow:
        """Return the row that `to_dict` wrote."""
        numbers: dict[str, Any] = {
            name: {float(key): number for key, number in value.items()} if isinstance(value, Mapping) else value
            for name, value in plain.items()
        }
        return TemperatureRow(**numbers)


def temperatures() -> tuple[TemperatureRow, ...]:
    """Return the measured rows that come with Assay; the file beside this one says by which commands."""
    return read_rows((files("assay.paper") / "temperatures.json").read_text(encoding="utf-8"))


def read_rows(text: str) -> tuple[TemperatureRow, ...]:
    """Return the rows in the text of a file of them."""
    return tuple(TemperatureRow.from_dict(row) for row in json.loads(text)["rows"])


def written_rows(rows: Iterable[TemperatureRow], facts: Mapping[str, Any]) -> str:
    """Return the text of a file of rows: the facts (command, learning rate, ...), then one row a line."""
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in facts.items())
    body = ",\n".join(f"  {json.dumps(row.to_dict())}" for row in rows)
    return f'{{\n{head} "rows": [\n{body}\n ]\n}}\n'
