"""Compositions are values: several attacks, several starts or several targets as one method."""

from assay.core.compose.by_norm import ByNorm
from assay.core.compose.cascade import Cascade
from assay.core.compose.confirmed import Confirmed, confirmed, confirmed_look
from assay.core.compose.diverse_start import DiverseStart
from assay.core.compose.each_target import EachTarget
from assay.core.compose.method import (
    Composition,
    CountPasses,
    Lens,
    Method,
    Passes,
    first_attack,
    for_norm,
    is_attack,
    most_passes,
    numbers_of,
    run,
    stages,
)
from assay.core.compose.restarts import Restarts
from assay.core.compose.smallest_budget import SmallestBudget
from assay.core.compose.through import Through
from assay.core.compose.transferred import Transferred, crafted
from assay.core.compose.while_in_reach import WhileInReach

__all__ = [
    "ByNorm",
    "Cascade",
    "Composition",
    "Confirmed",
    "CountPasses",
    "DiverseStart",
    "EachTarget",
    "Lens",
    "Method",
    "Passes",
    "Restarts",
    "SmallestBudget",
    "Through",
    "Transferred",
    "WhileInReach",
    "confirmed",
    "confirmed_look",
    "crafted",
    "first_attack",
    "for_norm",
    "is_attack",
    "most_passes",
    "numbers_of",
    "run",
    "stages",
]
