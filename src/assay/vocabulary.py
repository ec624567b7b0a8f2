"""The words that studies, flags and records share. Nothing here imports torch: `assay --help` lists them."""

from __future__ import annotations

import enum


class Norm(enum.StrEnum):
    """The norms of a threat."""

    LINF = "linf"
    L2 = "l2"
    L1 = "l1"
    L0 = "l0"
    YCBCR = "ycbcr"
    PATCH = "patch"


class Question(enum.StrEnum):
    """What a number, or a curve of them, answers."""

    WORST_CASE = "worst_case"
    AS_ATTACKED = "as_attacked"


class Order(enum.StrEnum):
    """How a worst-case curve walks through the budgets."""

    ASCENDING = "ascending"
    """Smallest first, survivors go on. Every survivor is attacked afresh at every budget."""
    DESCENDING = "descending"
    """Largest first; what was broken starts the search at the next smaller budget from there, and what stands at a
    budget is taken to stand at every smaller one. Several times fewer passes."""


class Audit(enum.StrEnum):
    """How closely robust numbers are audited: how much may go unseen, in points of accuracy."""

    OFF = "off"
    QUICK = "quick"
    """Five points, on 59 images and more."""
    STANDARD = "standard"
    """Two points; attacks of every kind are tried in any case."""
    THOROUGH = "thorough"
    """Nothing: every survivor is looked at, by all attacks."""


class Labels(enum.StrEnum):
    """Where labels come from, if not from the data."""

    PREDICTED = "predicted"


class Outputs(enum.StrEnum):
    """What the model returns."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


UNATTACKED = "none"
"""The attack of cells that are looked at and not attacked: corrupted data. No study names it."""

PREDICTED_LABELS = "(labels: predicted by the model)"
"""What records call data whose labels are the model's own answers, behind their source."""
