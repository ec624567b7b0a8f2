"""Whether a model answers the same question twice the same way: states between calls, weights that it updates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import ModelError


@contextlib.contextmanager
def on_copies(model: nn.Module) -> Iterator[Callable[[], list[str]]]:
    """Let the modules hold copies of their parameters meanwhile; yields a function that names those written to.

    Parameters of a TorchScript module cannot be lent and stay its own.
    """
    swapped: list[tuple[dict[str, Any], str, nn.Parameter, nn.Parameter]] = []
    copies: dict[int, nn.Parameter] = {}
    try:
        for module in model.modules():
            parameters = module.__dict__.get("_parameters")
            if type(parameters) is not dict:
                continue
            for name, own in parameters.items():
                if type(own) is nn.Parameter and not own.is_meta:
                    # the strides of the original: that is what the forward is tried with
                    copy = copies.setdefault(id(own), nn.Parameter(own.detach().clone(), requires_grad=False))
                    swapped.append((parameters, name, own, copy))
                    parameters[name] = copy
        yield lambda: [name for _, name, own, copy in swapped if not _same(own, copy)]
    finally:
        for parameters, name, own, _ in swapped:
            parameters[name] = own


def refuse_state(names: list[str], parameters: list[str]) -> None:
    """Raise `ModelError` for a model whose answers depend on what it was asked before, naming where it keeps that."""
    if parameters:
        raise ModelError(
            f"The model updates its own weights in its forward ({', '.join(parameters[:3])}): what it answers depends "
            "on what it was asked before. Evaluate the weights as they are, or say how it begins again: "
            "assay.load_model(model, reset=function), called with the model before every pass."
        )
    # layers of one kind have the same name
    kept = list(dict.fromkeys(names))[:3]
    raise ModelError(
        f"The model keeps a state between calls ({', '.join(kept)}): asked twice about the same images, it gives "
        "different answers. Say how it begins again: assay.load_model(model, reset=function), where function(model) is "
        "called before every pass (spikingjelly's functional.reset_net, for example), or reset it in its forward."
    )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.layout is not torch.strided:
        return True
    return torch.equal(one, other) or torch.allclose(one, other, 0, 0, True)


__all__ = ["on_copies", "refuse_state"]
