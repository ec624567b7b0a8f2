"""What the doctor's checks read, and what they say."""

from __future__ import annotations

import dataclasses
import enum

from assay.cli.doctor_evidence import Evidence
from assay.data import Data
from assay.models import Classifier


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
