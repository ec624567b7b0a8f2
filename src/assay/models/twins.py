"""The gradients of one network for the answers of another: a deployed file or server, and a twin in torch."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from assay.core.answers import checked_logits
from assay.core.errors import AssayError, BadInput
from assay.core.held import frozen
from assay.core.oracle import Access, LookPasses
from assay.models.classifier import Classifier
from assay.models.deployed import Deployed
from assay.models.failures import in_short
from assay.models.normalized import Thresholded


def guided(deployed: Classifier, twin: Classifier, *, ask: bool = True) -> Classifier:
    """Return the deployed classifier with the gradients of its `twin`; every answer stays its own.

    The twin's `digest` has to be known, since it goes into that of the pair. Both are asked once how many classes
    they have, unless `ask` is False, as for an endpoint whose answers are counted.

    Raises `BadInput` for a deployed model that has gradients of its own, for a twin that gives none or is no plain
    network, and where the two take other images or name other numbers of classes.
    """
    around = deployed.module if isinstance(deployed.module, Thresholded) else None
    module, twin = deployed.module if around is None else around.module, _network_of(twin)
    if not isinstance(module, Deployed):
        raise BadInput(
            f"{deployed.spec} has gradients of its own and takes no twin. Leave twin= out; to judge images made on "
            "another network, make them there and transfer them."
        )
    _check_plain(deployed, twin)
    _check_images(deployed, twin)
    if ask:
        _check_classes(deployed, twin)
    note = (
        f"The gradients are those of {twin.spec}; every answer, and so every verdict, is that of {deployed.spec} "
        "itself. Where the two differ much, gradients mislead and the model looks stronger than it is."
    )
    both: nn.Module = Deployed(module.answer, twin.module)
    return dataclasses.replace(
        deployed,
        module=both if around is None else Thresholded(both, around.threshold),
        access=Access.GRADIENT,
        identity=f"{deployed.identity} gradients {twin.digest}",
        notes=(*deployed.notes, note),
        passes=LookPasses(climbing=2),
    )


def _network_of(twin: Classifier) -> Classifier:
    # of a file with gradients, those are asked for alone: its own answers would cost time and change nothing
    module = twin.module
    if not isinstance(module, Deployed) or module.twin is None:
        return twin
    return dataclasses.replace(twin, module=module.twin, passes=LookPasses())


def _check_plain(deployed: Classifier, twin: Classifier) -> None:
    wrong = ""
    if twin.access is not Access.GRADIENT:
        wrong = f"gives {twin.access.name.lower()} and no gradients"
    elif twin.defenses or twin.rejects:
        wrong = "stands behind defences"
    elif twin.reset is not None or twin.random:
        wrong = "keeps a state or draws random numbers"
    elif twin.passes != LookPasses():
        wrong = "asks its network more than once about an image"
    if wrong:
        raise BadInput(
            f"The twin {twin.spec} of {deployed.spec} {wrong}; expected a plain network of torch with gradients, such "
            "as the float network that the file was made from: twin=file:PATH, keras:FILE, my.py:factory."
        )


def _check_images(deployed: Classifier, twin: Classifier) -> None:
    one, other = deployed.input_shape, twin.input_shape
    if one is not None and other is not None and one != other:
        raise BadInput(
            f"{deployed.spec} takes images {list(one)} (channels, height, width) and its twin {twin.spec} takes "
            f"{list(other)}; expected the same. Name the network that the file was made from, or give it a size."
        )


def _check_classes(deployed: Classifier, twin: Classifier) -> None:
    shape = deployed.input_shape or twin.input_shape
    if shape is None:
        # the first look compares them
        return
    grey = torch.full((1, *shape), 0.5)
    numbers = [_classes(one, grey) for one in (deployed, twin)]
    if numbers[0] != numbers[1]:
        raise BadInput(
            f"{deployed.spec} gives {numbers[0]} and its twin {twin.spec} gives {numbers[1]}; expected the same "
            "classes in the same order. Name the network that the file was made from."
        )


def _classes(classifier: Classifier, image: Tensor) -> str:
    try:
        with frozen(classifier.module), torch.no_grad():
            output = classifier.module(image.to(classifier.module_device))
        checked_logits(output, 1)
    except AssayError:
        raise
    except Exception as error:
        raise BadInput(
            f"{classifier.spec} could not be asked about an image {list(image.shape[1:])}: {in_short(error)}. Is that "
            "the size it takes? State it with ?size=."
        ) from error
    return f"{output.numel()} scores per image" if output.numel() > 1 else "one score per image"


__all__ = ["guided"]
