"""The smallest change of a few digits on each network, from the pictures that the run of their study kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from assay import wording as words
from assay.paper.tables import PROTOCOLS

if TYPE_CHECKING:
    from torch import Tensor

    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run

TABLE = "XIV"


@dataclasses.dataclass(frozen=True)
class Changed:
    """A digit `[1, 28, 28]` after its smallest change, what the network then takes it for, and the change's L2 size."""

    image: Tensor
    predicted: int
    size: float


@dataclasses.dataclass(frozen=True)
class Smallest:
    """A digit as it is, and after the smallest change found on each network."""

    image: Tensor
    true: int
    changed: Mapping[str, Changed]


def smallest_changes(out: Path) -> tuple[Smallest, ...]:
    """Return the digits that gave way on every network of the run in `out`; none where there is no finished run."""
    from assay.evaluation.records.manifest import SUCCESS
    from assay.paper.measured import opened
    from assay.paper.runs import directory_of

    run = opened(directory_of(out, PROTOCOLS[TABLE].smallest, False))
    return _digits(run) if run is not None and run.status == SUCCESS else ()


def _digits(run: Run) -> tuple[Smallest, ...]:
    from assay.evaluation.records.schema import BROKEN

    by_network: dict[str, dict[str, Picture]] = {}
    for digest, cell in run.cells.items():
        kept = {one.sample_id: one for one in run.gallery(digest) if one.status == BROKEN}
        by_network[str(cell["model"]).removeprefix("zoo:")] = kept
    shared = set.intersection(*map(set, by_network.values())) if by_network else set()
    return tuple(_digit({network: kept[name] for network, kept in by_network.items()}) for name in sorted(shared))


def _digit(pictures: Mapping[str, Picture]) -> Smallest:
    first = next(iter(pictures.values()))
    changed = {
        network: Changed(one.original + one.perturbation.float(), int(one.logits.argmax()), one.size)
        for network, one in pictures.items()
    }
    return Smallest(first.original, first.label, changed)


def said(found: Sequence[Smallest]) -> str:
    """Say how large the changes are on each network, and what that means; "" where there are none."""
    if not found:
        return ""
    medians = {name: median(one.changed[name].size for one in found) for name in found[0].changed}
    sizes = " and ".join(f"{size:.2f} on {name}" for name, size in medians.items())
    told = f"The median over {words.plural(len(found), 'digit')} is {sizes}."
    plain, *others = medians.values()
    if others and max(others) <= plain:
        told += " On them distillation has moved no boundary away: it has hidden where the boundary is."
    return told
