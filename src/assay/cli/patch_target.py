"""The class that a patch is for: found among what model and data call their classes, and checked against the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.cli.console import say
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from assay.data import Data
    from assay.models import Classifier
    from assay.patches import Patch


def find_target(written: str | None, model: Classifier, data: Data) -> tuple[int | None, str]:
    """Return the class that `written` names, and what it is called; None and "" for no class.

    A name that is also a part of others is told on the terminal. Raises `BadInput` for no class of the model.
    """
    from assay.data.labels import find_class

    if written is None:
        return None, ""
    names, count = model.classes or data.classes, count_classes(model, data)
    if names is None and not written.isdecimal():
        raise BadInput(
            f"--target {written}: neither {model.spec} nor {data.source} says what classes are called. "
            f"Give the number, 0 to {count - 1}."
        )
    target, notes = find_class(written, count, names, model.synsets)
    for note in notes:
        say(f"Note: {note}", style="yellow")
    return target, names[target] if names and target < len(names) else f"class {target}"


def check_target(patch: Patch, model: Classifier, data: Data) -> None:
    """Raise `BadInput` for a patch whose target is no class of the model; tell where the model calls it otherwise."""
    if patch.target is None:
        return
    count = count_classes(model, data)
    if patch.target >= count:
        raise BadInput(
            f"The patch {patch.name} is for class {patch.target}, and {model.spec} has {count} classes, 0 to "
            f"{count - 1}. Use a model of the same classes."
        )
    called = model.classes[patch.target] if model.classes else patch.target_name
    if called != patch.target_name and not patch.target_name.startswith("class "):
        say(
            f"Note: class {patch.target} is {patch.target_name!r} for the patch and {called!r} for {model.spec}.",
            style="yellow",
        )


def check_together(models: Sequence[Classifier], data: Data) -> None:
    """Refuse models that cannot be attacked at once on these data; see `Victims` and `check_answers`."""
    from assay.patches.victims import Victims

    Victims(tuple(models), data.input_shape)
    for model in models:
        check_answers(model, data, climbed=True)


def check_answers(model: Classifier, data: Data, *, climbed: bool) -> None:
    """Ask the model about a first image, and refuse what would make every number about it wrong.

    Raises `BadInput` for labels that are no classes of its, and, where its answers are to be `climbed`, for
    probabilities; `ModelError` for scores that are no numbers.
    """
    from assay.evaluation.attack_unit import check_numbers, check_scores
    from assay.evaluation.one_score import check_one_score

    name, x = _first_image(model, data)
    with model.held():
        oracle = model.oracle()
        logits = oracle.answers(x)
        check_numbers(logits, [name], model.spec)
        if climbed:
            check_scores(logits, model.outputs, model.access)
            check_one_score(oracle, x, logits, model.outputs)
    classes = logits.shape[1]
    wrong = next((at for at, label in enumerate(data.labels) if not 0 <= label < classes), None)
    if wrong is not None:
        raise BadInput(
            f"The sample {data.ids[wrong]!r} has label {data.labels[wrong]}, but {model.spec} has {classes} classes, "
            f"0 to {classes - 1}. Choose data whose labels are the model's classes."
        )


def count_classes(model: Classifier, data: Data) -> int:
    """Return how many classes the model has: as many as it names, or as it answers with about a first image."""
    if model.classes:
        return len(model.classes)
    _, x = _first_image(model, data)
    with model.held():
        return model.oracle().answers(x).shape[1]


def _first_image(model: Classifier, data: Data) -> tuple[str, Tensor]:
    """Return the id of the first readable image, and the image `[1, C, H, W]` where the model computes."""
    from assay.data import Sample

    sample = next((one for at in range(len(data)) for one in data.load([at]) if isinstance(one, Sample)), None)
    if sample is None:
        raise BadInput(f"{data.source} has no image that can be read. Use other data.")
    return sample.id, sample.image[None].to(model.device)
