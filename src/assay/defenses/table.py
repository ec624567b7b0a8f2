"""The defences, in one visible table: name -> how to put it around a network, what it costs, where it comes from."""

from __future__ import annotations

from assay.core.errors import BadInput, did_you_mean
from assay.defenses.detectors import MaxSoftmax
from assay.defenses.entry import Defense
from assay.defenses.transformations import BitDepth

TRANSFORMATIONS: dict[str, Defense] = {
    "bit-depth": Defense(
        BitDepth, "grey levels rounded to a few bits", "Xu et al. 2018", "1704.01155", differentiable=False,
        backward="sigmoids at the steps",
    ),
}  # fmt: skip
"""Steps that change an image before the network sees it."""

DETECTORS: dict[str, Defense] = {
    "max-softmax": Defense(
        MaxSoftmax, "refuses images whose highest probability is low", "Hendrycks and Gimpel 2017", "1610.02136",
        detects=True,
    ),
}  # fmt: skip
"""Detectors, which refuse images."""

DEFENSES: dict[str, Defense] = {**TRANSFORMATIONS, **DETECTORS}


def defense(name: str) -> Defense:
    """Return the line called `name`. Raises `BadInput` for an unknown one."""
    if name not in DEFENSES:
        near = did_you_mean(name, DEFENSES)
        raise BadInput(f"Unknown defence {name!r}.{near} There are: {', '.join(DEFENSES)}.")
    return DEFENSES[name]
