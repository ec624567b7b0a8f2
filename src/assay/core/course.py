"""Where a search begins, and who follows it on its way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from assay.core.oracle import Seen

Watch = Callable[[int, Any, Seen], None]


@dataclasses.dataclass(frozen=True)
class Course:
    """Where a search begins, and who follows it.

    `state` is the attack's state before look number `look`: a search that goes on from what `watch` was told ends as if
    it had never stopped (its counts are those of its own looks). `watch(look, state, seen)` is told after every step
    which look comes next, from which state, and what the last one saw. Only a search that keeps its LAST point can go
    on, since the others carry what they found.
    """

    look: int = 0
    state: Any = None
    watch: Watch | None = None


FROM_THE_START = Course()
