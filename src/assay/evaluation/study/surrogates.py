"""The option `surrogate` of every attack of the table: made on other models, judged by the model itself."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.attacks.options import Kind, Option
from assay.core.errors import BadInput
from assay.core.oracle import TorchOracle
from assay.defenses.chain import SEPARATOR
from assay.models import Classifier, together
from assay.models.load import WHOLE_NAMES

_ONE = r"\s*[^+\s][^+]*"

UNDEFENDED = "undefended"
"""The surrogate that is the model itself without the defences around it."""

OPTIONS: Mapping[str, Option] = {
    "surrogate": Option(
        "The model it is made on, or several joined by +, whose mean logits are attacked; `undefended` is the model "
        "itself without its defences.", optional=True,
        pattern=rf"{_ONE}(\+{_ONE})*", expected="a model such as zoo:mnist-cnn, or several joined by +",
    ),
    "surrogate_outputs": Option(
        "What the surrogate returns.", pattern="logits|probabilities", expected="logits or probabilities",
        default="logits",
    ),
    "pushed": Option(
        "Of a surrogate: whether images go as far as the budget lets them, which breaks more other models: to the "
        "point that the surrogate gets most wrong, and from a smallest success on to the edge.",
        kind=Kind.SWITCH, default=False,
    ),
    "surrogate_digest": Option(
        "Digest of the surrogate's weights; a plan writes it.", pattern=rf"{_ONE}(\+{_ONE})*", expected="a digest",
        optional=True,
    ),
}  # fmt: skip
"""The options of an attack that is made on other models."""


def names(written: str) -> tuple[str, ...]:
    """Return the models that a surrogate is made of.

    A + inside a chain of defences (`squeezers=bit-depth-1+median-2`) joins no models: no model begins behind it.
    """
    found: list[str] = []
    for part in written.split("+"):
        begins = part.partition(SEPARATOR)[0].partition("?")[0].strip()
        model = ":" in begins or begins == UNDEFENDED or begins in WHOLE_NAMES
        if found and SEPARATOR in found[-1] and not model:
            found[-1] += f"+{part.rstrip()}"
        else:
            found.append(part.strip())
    return tuple(found)


def key_of(options: Mapping[str, Any]) -> str:
    """Return what tells the surrogate of an attack's options from others; "" where there is none."""
    written, outputs = options.get("surrogate") or "", options.get("surrogate_outputs", "logits")
    return written if outputs == "logits" else f"{written} ({outputs})"


def digest_of(models: Sequence[Classifier]) -> str:
    """Return the digest of a surrogate: the weights' own, or one over those of several."""
    if len(models) == 1:
        return models[0].digest
    return hashlib.blake2b("+".join(model.digest for model in models).encode(), digest_size=16).hexdigest()


def resolved(options: Mapping[str, Any], models: Sequence[Classifier], target: Classifier) -> dict[str, Any]:
    """Return the options with the digest of the surrogate's weights. Raises `BadInput` where it cannot stand in."""
    check_fit(models, target)
    found, wanted = digest_of(models), options.get("surrogate_digest")
    if wanted and wanted != found:
        raise BadInput(f"The surrogate {options['surrogate']} has weights {found}, expected {wanted}.")
    return {**options, "surrogate_digest": found}


def check_fit(models: Sequence[Classifier], target: Classifier) -> None:
    """Raise `BadInput` where models do not take the target's images, or do not know its classes."""
    for model in models:
        if model.input_shape and target.input_shape and model.input_shape != target.input_shape:
            one, other = (" x ".join(map(str, each.input_shape or ())) for each in (model, target))
            raise BadInput(
                f"{model.spec} takes images of {one}, {target.spec} of {other}: images made on one do not fit the "
                "other. Use models of one input size."
            )
        if model.classes and target.classes and len(model.classes) != len(target.classes):
            raise BadInput(
                f"{model.spec} has {len(model.classes)} classes, {target.spec} has {len(target.classes)}. Use models "
                "of the same classes."
            )


@contextlib.contextmanager
def held(models: Sequence[Classifier], batch: int | None = None) -> Iterator[TorchOracle]:
    """Hold models still, and give them as one oracle: of several, the mean of their logits is seen."""
    with together(models).held() as model:
        yield model.oracle(batch)
