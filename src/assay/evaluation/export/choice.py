"""Which images of a run are exported: of which cells and budgets, and whether all of them or the broken ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from assay.core.budget import Budget, parse_budget
from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.cell import Cell
from assay.evaluation.export.image_files import check_channels, check_form
from assay.evaluation.loader import Loader
from assay.evaluation.records.schema import BROKEN, REJECTED, SURVIVED, WRONG_BEFORE
from assay.evaluation.run import Run

ONLY = {"broken": (BROKEN,), "all": (BROKEN, SURVIVED, REJECTED, *WRONG_BEFORE)}
"""The statuses of the images that are written; what was certified met no attack, so there is nothing to write."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is exported, and as what.

    `form` is "png" (8 bits), "npy" or "safetensors" (float32, exact); `only` is "broken" (the images that the attack
    broke) or "all" (of every sample with a result the last image of its attack, or itself where it was not attacked).
    The rest are filters, each a list of which one must hold: `cells` (digests or their beginnings), `attacks` (labels,
    or names alone), `eps`, `models` and `data`. An empty list admits everything.
    """

    form: str = "png"
    only: str = "broken"
    cells: Sequence[str] = ()
    attacks: Sequence[str] = ()
    eps: Sequence[str | float] = ()
    models: Sequence[str] = ()
    data: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse words that mean nothing."""
        check_form(self.form)
        if self.only not in ONLY:
            near = did_you_mean(self.only, ONLY)
            raise BadInput(f"only is {self.only!r}.{near} Expected one of {', '.join(ONLY)}.")
        for name in ("cells", "attacks", "eps", "models", "data"):
            if isinstance(getattr(self, name), (str, int, float)):
                object.__setattr__(self, name, (getattr(self, name),))

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses of the images that are written."""
        return ONLY[self.only]

    def of(self, run: Run) -> list[tuple[Cell, tuple[Budget, ...]]]:
        """Return the chosen cells of a run, each with its chosen budgets.

        Raises `BadInput` for a filter that fits nothing in the run.
        """
        from assay.vocabulary import UNATTACKED

        every = [Cell.of(plain) for plain in run.cells.values()]
        # corrupted images are no adversarial ones
        cells = [cell for cell in every if cell.attack.attack != UNATTACKED]
        if not cells:
            raise BadInput(
                f"{run.path} has corrupted data alone: nothing was attacked, and there is nothing to export."
            )
        cells = _kept("cell", self.cells, cells, lambda cell, text: cell.digest.startswith(text), _digest)
        cells = _kept("attack", self.attacks, cells, _is_attack, lambda cell: cell.attack.label)
        cells = _kept("model", self.models, cells, lambda c, t: t in (c.model.label, c.model.model), _model)
        cells = _kept("data", self.data, cells, lambda cell, text: cell.data.source == text, lambda c: c.data.source)
        wanted = [parse_budget(one) for one in self.eps]
        chosen = [
            (cell, tuple(b for b in cell.budgets if not wanted or any(_same(b, w) for w in wanted))) for cell in cells
        ]
        found = [pair for pair in chosen if pair[1]]
        for budget in wanted:
            if not any(_same(budget, one) for _, budgets in found for one in budgets):
                there = dict.fromkeys(one.written for cell in cells for one in cell.budgets)
                raise BadInput(f"No chosen cell has the budget {budget.written}; there are {', '.join(there)}.")
        return found

    def check(self, run: Run, cells: Iterable[Cell], loader: Loader) -> None:
        """Raise `BadInput` for what cannot be made again or written, as far as the manifest tells."""
        from assay.evaluation.study.attacks import STUDY_ATTACKS

        for cell in cells:
            name = cell.model.model
            if name.startswith("python:") and name not in loader.models:
                raise BadInput(
                    f"The model {name} was given as a Python object, which no file holds. Export from the program "
                    "that evaluated it: evaluation.export_images(folder)."
                )
            if cell.data.source.startswith("python:") and cell.data.source not in loader.datasets:
                raise BadInput(
                    f"The data {cell.data.source} were given as a Python object, which no file holds. Export from the "
                    "program that evaluated them: evaluation.export_images(folder)."
                )
            entry = STUDY_ATTACKS.get(cell.attack.attack)
            if entry is None or entry.version != cell.version:
                has = "none of that name" if entry is None else f"version {entry.version}"
                raise BadInput(
                    f"The run was made with version {cell.version} of the attack {cell.attack.attack}, this Assay has "
                    f"{has}: it would make other images. Run the study again."
                )
            shape = run.manifest["models"].get(cell.model.label, {}).get("input_shape")
            shape = shape or run.manifest["data"].get(cell.data.source, {}).get("image_shape")
            if shape:
                check_channels(self.form, int(shape[0]), cell.data.source)


def _kept(
    what: str,
    wanted: Sequence[str],
    cells: list[Cell],
    fits: Callable[[Cell, str], bool],
    name: Callable[[Cell], str],
) -> list[Cell]:
    for text in wanted:
        if not any(fits(cell, text) for cell in cells):
            names = list(dict.fromkeys(map(name, cells)))
            raise BadInput(
                f"No chosen cell has the {what} {text!r}.{did_you_mean(text, names)} There are: {', '.join(names)}."
            )
    return [cell for cell in cells if not wanted or any(fits(cell, text) for text in wanted)]


def _is_attack(cell: Cell, text: str) -> bool:
    return text in (cell.attack.label, cell.attack.attack)


def _digest(cell: Cell) -> str:
    return cell.digest


def _model(cell: Cell) -> str:
    return cell.model.label


def _same(one: Budget, other: Budget) -> bool:
    return one.unit == other.unit and math.isclose(one.value, other.value, rel_tol=1e-9)
