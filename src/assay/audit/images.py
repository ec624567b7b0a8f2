"""Whether the images that an audit reads are those that the run attacked."""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.errors import BadInput
from assay.data import Sample, image_digest
from assay.evaluation.cell import Cell
from assay.evaluation.run import Run


def check_same_images(run: Run, cell: Cell, samples: Sequence[Sample]) -> None:
    """Raise `BadInput` saying how many of `samples` have other pixels than the run's records of `cell` name.

    Records made before digests were kept have nothing to compare with, and pass.
    """
    kept = run.store.read([cell.digest], ["sample_id", "image_digest"]).to_pydict()
    known = dict(zip(kept["sample_id"], kept["image_digest"], strict=True))
    compared = [one for one in samples if known.get(one.id) is not None]
    others = [one.id for one in compared if image_digest(one.image) != known[one.id]]
    if others:
        raise BadInput(
            f"{len(others)} of the {len(compared)} images that the audit reads from {cell.data.source} are not those "
            f"that the run attacked (the first: {others[0]!r}), so nothing can be said about its numbers. Random "
            "transforms of the data set must be off, and files left as they are; then run it anew."
        )
