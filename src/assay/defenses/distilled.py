"""Defensive distillation: a network of its own, which no wrapper can make."""

from __future__ import annotations

from torch import nn

from assay.core.errors import BadInput
from assay.models import load_model


def distilled(module: nn.Module) -> nn.Module:
    """Return the network of `zoo:mnist-distilled-t100`, in place of one of its architecture.

    Distilling means training. Raises `BadInput` for any other architecture than that of `zoo:mnist-cnn`.
    """
    student = load_model("zoo:mnist-distilled-t100").module
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (module, student)]
    if shapes[0] != shapes[1]:
        raise BadInput(
            "Distillation trains a network, and Assay ships one: of the architecture of 'zoo:mnist-cnn'. Give that "
            "one, or train your own: assay train distill."
        )
    return student
