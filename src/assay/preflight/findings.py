"""What the preflight checks read, and what they say."""

from __future__ import annotations

import dataclasses
import enum
import html
from collections.abc import Iterator

from assay.data import Data
from assay.evaluation.cost import Speed
from assay.models import Classifier
from assay.preflight.evidence import Evidence


class Level(enum.StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    GOOD = "good"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found."""

    level: Level
    check: str
    text: str


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, data for it, and what was seen of the two together."""

    model: Classifier
    data: Data
    seen: Evidence

    @property
    def classes(self) -> int:
        """The number of the model's classes."""
        return self.seen.logits.shape[1]

    @property
    def n(self) -> int:
        """How many images were looked at."""
        return len(self.seen.y)


MARKS = {Level.ERROR: "✗", Level.WARNING: "!", Level.NOTE: "·", Level.GOOD: "✓"}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the checks of a model on a data set found, the worst first; `title` names the two.

    Iterates over the findings and prints as a list; a notebook shows it as a table. `speed` is how fast the model was
    meanwhile, in seconds per image, where it could be asked at all.
    """

    findings: tuple[Finding, ...]
    speed: Speed | None = None
    title: str = ""

    @property
    def errors(self) -> list[Finding]:
        """What makes every number wrong."""
        return self._of(Level.ERROR)

    @property
    def warnings(self) -> list[Finding]:
        """What may make numbers wrong, or say less than they seem to."""
        return self._of(Level.WARNING)

    def _of(self, level: Level) -> list[Finding]:
        return [one for one in self.findings if one.level is level]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        wide = max((len(one.check) for one in self.findings), default=0)
        lines = [f"{MARKS[one.level]}  {one.check:{wide}}  {one.text}" for one in self.findings]
        return "\n".join([*([self.title] if self.title else []), *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{MARKS[one.level]} {one.level}</td><td>{html.escape(one.check)}</td>"
            f'<td style="text-align: left">{html.escape(one.text)}</td></tr>'
            for one in self.findings
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{rows}</table>"
