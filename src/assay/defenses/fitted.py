"""What a fit found for a chain of defences: one safetensors file, with everything that its answers depend on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from assay.core.errors import BadInput
from assay.files import write_atomically

FORMAT = "assay defence 1"


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A detector's frozen threshold, and the clean images that it was chosen on.

    An image is refused where its score is above `value`. `value` is the k-th smallest of the `scores` (float32 `[n]`,
    sorted) of `n` held-out clean images, k = ceil(n (1 - fpr)). `scale` is the median margin of the clean logits over
    the interquartile range of the scores.
    """

    value: float
    scale: float
    fpr: float
    scores: Tensor

    @property
    def n(self) -> int:
        """How many clean images the threshold was chosen on."""
        return len(self.scores)

    def at(self, fpr: float) -> float:
        """Return the threshold that the same images give for another share of refusals."""
        return chosen_threshold(self.scores, fpr)


def chosen_threshold(scores: Tensor, fpr: float) -> float:
    """Return the k-th smallest of n scores, k = ceil(n (1 - fpr)): at most a share `fpr` of them lies above it."""
    n = len(scores)
    # ceil of 0.95 * 20 must be 19, whatever the last bit of the product is
    k = min(n, max(1, math.ceil(n * (1 - fpr) - 1e-9)))
    return float(scores.sort().values[k - 1])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was fitted for a chain.

    `chain` is how it is written, without files; `network` the digest of what it stands around; `thresholds` are by the
    number of the step, `tensors` by number and name (`1.means`); `images` are digests of the held-out clean images,
    `told` is what the fit says of its data.
    """

    chain: str
    network: str
    thresholds: Mapping[int, Threshold]
    tensors: Mapping[str, Tensor]
    images: frozenset[str] = frozenset()
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def state(self, at: int) -> dict[str, Tensor]:
        """Return the tensors of step number `at`, by their own names."""
        prefix = f"{at}."
        return {name.removeprefix(prefix): one for name, one in self.tensors.items() if name.startswith(prefix)}


_SCORES, _IMAGES = "scores of step ", "held-out images"


def write_fitted(fitted: Fitted, path: Path) -> None:
    """Write a fit to a file, whole or not at all."""
    tensors = {name: one.detach().cpu().contiguous() for name, one in fitted.tensors.items()}
    for at, one in fitted.thresholds.items():
        tensors[f"{_SCORES}{at}"] = one.scores.cpu()
    digests = b"".join(bytes.fromhex(one) for one in sorted(fitted.images))
    tensors[_IMAGES] = torch.frombuffer(bytearray(digests or b"\0"), dtype=torch.uint8)[: len(digests)].view(-1, 8)
    about = {
        "chain": fitted.chain,
        "network": fitted.network,
        "thresholds": {
            str(at): {"value": one.value, "scale": one.scale, "fpr": one.fpr} for at, one in fitted.thresholds.items()
        },
        "told": dict(fitted.told),
    }
    write_atomically(path, save(tensors, {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}))


def read_fitted(path: str | Path, chain: str, network: str, *, named: bool) -> Fitted:
    """Return the fit in a file. Raises `BadInput` where it is no fit, or one for another chain or network.

    `named` says that the user named the file.
    """
    fix = f"assay defend fit 'MODEL|{chain}' --data DATA"
    if not Path(path).is_file():
        where = f"the file {path} is not there" if named else "and no fit of it is kept here"
        raise BadInput(f"{chain} has to be fitted before it is used, {where}. Fit it: {fix}")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a fitted defence: {error}. Make it with {fix}") from error
    if metadata.get("format") != FORMAT:
        raise BadInput(f"{path} is no fitted defence ({FORMAT!r} expected). Make it with {fix}")
    about = json.loads(metadata["about"])
    if about["chain"] != chain:
        raise BadInput(f"{path} was fitted for {about['chain']!r}, not for {chain!r}. Fit it anew: {fix}")
    if about["network"] != network:
        raise BadInput(
            f"{path} was fitted for another model (weights {about['network']}, these are {network}): its thresholds "
            f"and features mean nothing here. Fit it anew: {fix}"
        )
    digests = tensors.pop(_IMAGES).numpy().tobytes()
    images = frozenset(digests[at : at + 8].hex() for at in range(0, len(digests), 8))
    scores = {int(name.removeprefix(_SCORES)): tensors.pop(name) for name in list(tensors) if name.startswith(_SCORES)}
    thresholds = {int(at): Threshold(**one, scores=scores[int(at)]) for at, one in about["thresholds"].items()}
    return Fitted(chain, network, thresholds, tensors, images, about["told"])
