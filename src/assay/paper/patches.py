"""The patches that Tables VII to XII place: which ones, trained on what; and their success, counted from records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError
from assay.paper.runs import TableRun
from assay.paper.studies import filled_in, raw_study
from assay.paper.view import AS_PUBLISHED

if TYPE_CHECKING:
    import pyarrow as pa

HELD_OUT, HELD_OUT_STAND_IN = 500, 5
"""How many pictures training leaves out, of the 5,000 and of the 20 of the stand-in."""

EPOCHS, BATCH, LEARNING_RATE, MOMENTUM = 5, 32, 0.1, 0.8
"""How the paper's patches are trained: SGD on the cross-entropy to the target; a last, smaller batch is left out."""


@dataclasses.dataclass(frozen=True)
class PatchOrder:
    """A patch to be trained: a square of `side` pixels that turns what `model` sees into the class `target`.

    `data` are the pictures of training as a study writes them; `published` places it at the offsets of the public
    notebook, which leave out the last two.
    """

    path: Path
    model: str
    data: dict[str, Any]
    target: str
    side: int
    published: bool


def patch_orders(run: TableRun) -> list[PatchOrder]:
    """Return the patches that a run needs, each with what it is trained on: the pictures that are not held out."""
    whole = filled_in(raw_study(run.name), run.choices, list)
    published = run.modes[0] == AS_PUBLISHED
    data = {**whole["data"][0], "part": f"rest {HELD_OUT_STAND_IN if run.choices.stand_in else HELD_OUT}"}
    orders: dict[str, PatchOrder] = {}
    for grid in whole["grids"]:
        target = grid["goal"].removeprefix("targeted ")
        side = round((int(grid["threats"][0]["eps"][0]) / 3) ** 0.5)
        for attack in grid["attacks"]:
            file = attack["file"]
            orders[file] = PatchOrder(Path(file), whole["models"][0], data, target, side, published)
    return list(orders.values())


def train_patches(orders: Sequence[PatchOrder]) -> None:
    """Train the patches that are not there yet.

    Raises `AssayError`: this version cannot train patches.
    """
    missing = [one for one in orders if not one.path.is_file()]
    if missing:
        raise AssayError(
            f"{len(missing)} patches are not there, the first {missing[0].path}, and this version of Assay cannot "
            "train patches: Tables VII to XII have to wait. The other tables run."
        )


def can_patch() -> bool:
    """Whether this version has the attack that places patches."""
    from assay.attacks import ATTACKS

    return "patch" in ATTACKS


def success(records: pa.Table, target: int, top: int) -> tuple[int, int]:
    """Return how many rows have the class `target` among the first `top`, and of how many.

    Images of the target class itself, and those that could not be evaluated, are in neither number. `records` needs
    the columns label, target_rank and status.
    """
    from assay.evaluate.arrow import compute as pc
    from assay.evaluate.record import ERROR

    others = pc.and_(pc.not_equal(records["label"], target), pc.not_equal(records["status"], ERROR))
    ranks = records.filter(others)["target_rank"]
    return int(pc.sum(pc.less_equal(ranks, top)).as_py() or 0), len(ranks)
