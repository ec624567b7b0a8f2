"""Any callable on tensors as a module: a wrapper that normalises or keeps one output, a client, another framework."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.errors import BadInput, ModelError
from assay.models.facts import facts_of, referred


class Function(nn.Module):
    """A callable as a module. The networks that it refers to are its children: they are held still with it.

    They are found among its attributes, its closure, the global names it uses and its bound arguments. Where a network
    is reached another way, wrap it in a module of your own.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.networks = nn.ModuleList(networks_in(function))

    def forward(self, x: Tensor) -> Any:
        """Return what the callable makes of images `[N, C, H, W]`."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Say which callable it is."""
        return f"{name_of(self.function)}, code={code_of(self.function)}, facts={facts_of(self.function)}"


class Predictions(nn.Module):
    """A model of another framework as a module: `predict` takes a NumPy array float32 `[N, C, H, W]` in [0, 1].

    It returns scores `[N, K]`, or class numbers `[N]` where `classes` says how many classes there are. Nothing of it
    has a gradient: use it with `Classifier(module, access=...)`, or let `load_model(..., access=...)` do both.
    """

    def __init__(self, predict: Callable[[Any], Any], classes: int | None = None) -> None:
        super().__init__()
        self.predict = predict
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `[N, K]`: the model's own, or 1 for the class that it names and -1 for the others."""
        answer = self.predict(x.detach().float().cpu().numpy())
        out = answer.detach() if isinstance(answer, Tensor) else torch.from_numpy(np.array(answer))
        if self.classes is None:
            if out.ndim == 1 and not out.is_floating_point():
                raise ModelError(
                    f"The model returned class numbers ({out.dtype}) for {len(x)} images, expected scores [{len(x)}, "
                    "K]. Say how many classes there are: Predictions(predict, classes=10)."
                )
            return out.to(x.device) if out.is_floating_point() else out.to(x.device).float()
        if (
            out.ndim != 1
            or out.is_floating_point()
            or (len(out) and not 0 <= int(out.min()) <= int(out.max()) < self.classes)
        ):
            raise ModelError(
                f"The model returned {list(out.shape)} of {out.dtype} for {len(x)} images, expected class numbers "
                f"[{len(x)}] from 0 to {self.classes - 1}."
            )
        return 2 * F.one_hot(out.long(), self.classes).to(x.device, torch.float32) - 1

    def extra_repr(self) -> str:
        """Say which callable it is."""
        facts = f"code={code_of(self.predict)}, facts={facts_of(self.predict)}"
        return f"{name_of(self.predict)}, classes={self.classes}, {facts}"


def as_module(made: Any, what: str) -> nn.Module:
    """Return a module as it is, and an exported program or any other callable as one.

    Raises `BadInput` for what cannot be called.
    """
    if isinstance(made, nn.Module):
        return made
    if isinstance(made, torch.export.ExportedProgram):
        return made.module()
    if isinstance(made, type) or not callable(made):
        hint = f" Make one: {made.__name__}()." if isinstance(made, type) else ""
        raise BadInput(
            f"{what} is {type(made).__name__}, expected a torch.nn.Module, an assay.Classifier or a callable that "
            f"takes images [N, C, H, W] in [0, 1] and returns logits [N, K].{hint}"
        )
    return Function(made)


def networks_in(function: Any) -> list[nn.Module]:
    """Return the networks that a callable refers to, each once, in the order found."""
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if id(value) in seen or depth > 4:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.setdefault(id(value), value)
        elif isinstance(value, (list, tuple)):
            for one in value[:100]:
                look(one, depth + 1)
        elif isinstance(value, dict):
            for one in list(value.values())[:100]:
                look(one, depth + 1)
        else:
            for one in referred(value):
                look(one, depth + 1)

    look(function, 0)
    return list(found.values())


def name_of(function: Any) -> str:
    """Return the qualified name of a callable, or of its class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"


def code_of(function: Any) -> str:
    """Return a digest of what a callable does: its code, and that of its class; "" for built-in ones."""
    inner = function.func if isinstance(function, functools.partial) else function
    inner = getattr(inner, "__func__", inner)
    code = getattr(inner, "__code__", None) or getattr(vars(type(inner)).get("__call__"), "__code__", None)
    return hashlib.blake2b(_told(code).encode(), digest_size=8).hexdigest() if isinstance(code, CodeType) else ""


def _told(code: CodeType) -> str:
    constants = [_told(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return repr((code.co_code, constants, code.co_names))


__all__ = ["Function", "Predictions", "as_module", "code_of", "name_of", "networks_in"]
