"""The patches that Tables VII to XII place: which ones, trained on what; and their success, counted from records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.runs import TableRun
from assay.paper.studies import filled_in, raw_study
from assay.paper.tables import AS_PUBLISHED

if TYPE_CHECKING:
    import pyarrow as pa

    from assay.data import Data
    from assay.models import Classifier
    from assay.patches import PatchProgress, Recipe

OnProgress = Callable[[int, int, "PatchProgress"], None]


def silent(number: int, many: int, now: PatchProgress) -> None:
    """Tell nobody."""


HELD_OUT, HELD_OUT_STAND_IN = 500, 5
"""How many pictures training leaves out, of the 5,000 and of the 20 of the stand-in."""

EPOCHS, BATCH, LEARNING_RATE, MOMENTUM = 5, 32, 0.1, 0.8
"""How the paper's patches are trained: SGD on the cross-entropy to the target; a last, smaller batch is left out."""

STAND_IN_EPOCHS = 40
"""Five epochs over 15 pictures are five steps; the stand-in takes 40, and Adam, which needs fewer than SGD."""


@dataclasses.dataclass(frozen=True)
class PatchOrder:
    """A patch to be trained: a square of `side` pixels that turns what `model` sees into the class `target`.

    `data` are the pictures of training as a study writes them; `published` places it at the offsets of the public
    notebook, which leave out the last two; `stand_in` marks the pictures as those few.
    """

    path: Path
    model: str
    data: dict[str, Any]
    target: str
    side: int
    published: bool
    stand_in: bool = False


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
            orders[file] = PatchOrder(
                Path(file), whole["models"][0], data, target, side, published, run.choices.stand_in
            )
    return list(orders.values())


def train_patches(orders: Sequence[PatchOrder], device: str = "cpu", on_progress: OnProgress = silent) -> None:
    """Train the patches of a run that are not there yet, one after the other; an interrupted one goes on.

    `on_progress` hears the number of the patch among those to be trained, how many those are, and how far it is.
    Raises `BadInput` for a patch that is there and was trained on other weights or pictures.
    """
    from assay.data import load_data
    from assay.models import load_model
    from assay.patches import train_patch
    from assay.patches.pictures import write_png

    if not orders:
        return
    model = load_model(orders[0].model, device=device)
    chosen = dict(orders[0].data)
    data = load_data(chosen.pop("source"), model=model, **chosen)
    missing = [order for order in orders if not order.path.is_file()]
    for order in orders:
        if order not in missing:
            _check(order, model, data)
    for number, order in enumerate(missing):

        def tell(now: PatchProgress, number: int = number) -> None:
            on_progress(number, len(missing), now)

        folder = order.path.with_suffix(".training")
        done = train_patch([model], data, recipe_of(order, model, len(data)), folder, on_progress=tell)
        write_png(done.patch, order.path.with_suffix(".png"))
        done.patch.save(order.path)


def _check(order: PatchOrder, model: Classifier, data: Data) -> None:
    from assay.core.errors import BadInput
    from assay.patches import Patch

    facts = Patch.load(order.path).facts
    weights = [one["digest"] for one in json.loads(facts["models"])]
    if weights != [model.digest] or facts["fingerprint"] != data.fingerprint:
        what = "weights" if weights != [model.digest] else "pictures"
        raise BadInput(
            f"{order.path} was trained on other {what} than those asked for now. Use another --out, or delete it."
        )


def recipe_of(order: PatchOrder, model: Classifier, images: int) -> Recipe:
    """Return how a patch is trained: as the paper does, or on the few pictures of the stand-in with Adam."""
    from assay.data.labels import find_class
    from assay.models.imagenet import imagenet_classes, imagenet_synsets
    from assay.patches import Recipe
    from assay.patches.pictures import mask_of

    # a file of weights knows no names
    classes, synsets = model.classes or imagenet_classes(), model.synsets or imagenet_synsets()
    target, _ = find_class(order.target, len(classes), classes, synsets)
    plain = Recipe(
        mask_of("square", order.side), target, epochs=EPOCHS, batch=BATCH, rate=LEARNING_RATE, momentum=MOMENTUM,
        published=order.published,
    )  # fmt: skip
    few = dataclasses.replace(plain, batch=min(BATCH, images))
    return dataclasses.replace(few, epochs=STAND_IN_EPOCHS, optimizer="adam") if order.stand_in else few


def success(records: pa.Table, target: int, top: int) -> tuple[int, int]:
    """Return how many rows have the class `target` among the first `top`, and of how many.

    Images of the target class itself, and those that could not be evaluated, are in neither number. `records` needs
    the columns label, target_rank and status.
    """
    from assay.evaluation.records.arrow import compute as pc

    reached = pc.less_equal(_others(records, target)["target_rank"], top)
    return int(pc.sum(reached).as_py() or 0), len(reached)


def interval(records: pa.Table, target: int, top: int) -> tuple[float, float] | None:
    """Return the 95 % interval of that share: placements on one image are no independent observations.

    `records` needs the column sample_id too. None where there are no rows.
    """
    from assay.evaluation.records.arrow import compute as pc
    from assay.statistics import clustered

    others = _others(records, target)
    if not len(others):
        return None
    reached = others.append_column("reached", pc.less_equal(others["target_rank"], top))
    images = reached.group_by("sample_id").aggregate([("reached", "sum"), ("reached", "count")]).to_pylist()
    each = max(image["reached_count"] for image in images)
    # an image with an error at some placement cannot be weighed like the others
    return clustered([image["reached_sum"] for image in images if image["reached_count"] == each], each)


def _others(records: pa.Table, target: int) -> pa.Table:
    from assay.evaluation.records.arrow import compute as pc
    from assay.evaluation.records.schema import ERROR

    return records.filter(pc.and_(pc.not_equal(records["label"], target), pc.not_equal(records["status"], ERROR)))
