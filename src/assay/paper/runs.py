"""The runs that tables are made of: which study goes into which directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.paper.choices import Choices, needs_imagenet, network_spec
from assay.paper.images import SingleImages, checked_imagenet
from assay.paper.studies import filled_in, image_numbers, patch_files, raw_study
from assay.paper.tables import PROTOCOLS, Kind, Protocol, in_order

if TYPE_CHECKING:
    from assay.evaluation.study.spec import Study

OUT = Path("runs/sen2023")
"""Where runs go when nobody says."""


@dataclasses.dataclass(frozen=True)
class TableRun:
    """A study to run for one or more tables, in one or more modes, and where."""

    name: str
    tables: tuple[str, ...]
    modes: tuple[str, ...]
    choices: Choices

    @property
    def directory(self) -> Path:
        """The run directory."""
        return directory_of(self.choices.out, self.name, self.choices.stand_in)

    @property
    def protocol(self) -> Protocol:
        """How the (first) table is measured."""
        return PROTOCOLS[self.tables[0]]

    @property
    def patches(self) -> tuple[Path, ...]:
        """The trained patches it needs."""
        whole = filled_in({"grids": raw_study(self.name).get("grids", [])}, self.choices, list)
        return tuple(Path(name) for name in patch_files(whole))

    def check(self) -> None:
        """Raise `BadInput` for what is not there."""
        if not self.patches:
            self.study()

    def study(self) -> Study:
        """Return the study. Raises `BadInput` for pictures that are not there."""
        from assay.evaluation.study.spec import Study

        return Study.of(filled_in(raw_study(self.name), self.choices, self._single_images))

    def _single_images(self) -> list[dict[str, Any]]:
        raw = raw_study(self.name)
        spec = network_spec(self.protocol.networks[0], self.choices)
        return SingleImages(self.choices, image_numbers(raw), spec).data()


def directory_of(out: Path, name: str, stand_in: bool) -> Path:
    """Return where a study of the paper runs."""
    return out / (name + ("-stand-in" if stand_in else ""))


def table_runs(numbers: Sequence[str], modes: Sequence[str], choices: Choices) -> list[TableRun]:
    """Return the runs for some tables, each once: two tables may be counted from the same one.

    Raises `BadInput` where ImageNet is needed and nobody said where it is, or where classes are missing.
    """
    ordered = in_order(numbers)
    of_imagenet = [number for number in ordered if PROTOCOLS[number].needs_imagenet]
    if of_imagenet and not choices.stand_in:
        if choices.imagenet is None:
            raise BadInput(needs_imagenet(of_imagenet, choices))
        checked_imagenet(choices.imagenet)
    if choices.images and not any(PROTOCOLS[number].kind is Kind.PANELS for number in ordered):
        raise BadInput("--image names images for Tables II and III, and neither is asked for. Add --table III.")
    found: dict[str, TableRun] = {}
    for number in ordered:
        for mode in modes:
            # the digits need nothing in their place
            chosen = choices if number in of_imagenet else dataclasses.replace(choices, stand_in=False)
            for name in PROTOCOLS[number].names(mode):
                before = found.get(name, TableRun(name, (), (), chosen))
                tables, both = (*before.tables, number), (*before.modes, mode)
                found[name] = TableRun(name, tuple(dict.fromkeys(tables)), tuple(dict.fromkeys(both)), chosen)
    return list(found.values())
