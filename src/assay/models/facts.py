"""What the answers of a callable, or of a module without weights, rest on, as far as a digest can tell it apart."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.errors import BadInput

_DEPTH = 4
# what no answer comes from: locks, loggers
_BESIDE = frozenset({"_thread", "threading", "logging", "weakref"})
# what every module has, whatever it is
_USUAL = frozenset(nn.Module().__dict__)


def referred(value: Any) -> Iterator[Any]:
    """Yield what a callable refers to: bound arguments, its object, its closure, the global names it uses."""
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        yield from (value.__self__, value.__func__)
    elif inspect.isfunction(value):
        try:
            around = inspect.getclosurevars(value)
        except ValueError:  # a cell that is still empty
            return
        yield from (*around.nonlocals.values(), *around.globals.values(), *(value.__defaults__ or ()))
    elif callable(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        yield from vars(value).values()
        call = vars(type(value)).get("__call__")
        if inspect.isfunction(call):
            yield call


def facts_of(function: Any) -> str:
    """Return a digest of the values that a callable refers to: numbers, words, arrays, and what can be pickled.

    Networks are left out: they are digested as modules. "" where it refers to nothing else.
    """
    return _Facts.of(function).digest


def facts_of_attributes(module: nn.Module) -> str:
    """Return a digest of the values that the modules of a network keep as attributes of their own; "" where none do."""
    return _Facts.of(_attributes(module)).digest


def check_told_apart(module: nn.Module, what: str) -> None:
    """Raise `BadInput` for a model that answers from an object which no digest can tell from another of its kind.

    That is a session, a client, a handle: two files behind it would be one model, and a run that goes on would mix
    them. Models with weights of their own are told apart by those.
    """
    if module.state_dict():
        return
    asked = [vars(one)[key] for one in module.modules() for key in ("function", "predict") if key in vars(one)]
    unknown = [*_Facts.of(asked).unknown, *_Facts.of(_attributes(module)).unknown]
    if unknown:
        kinds = ", ".join(dict.fromkeys(unknown))
        raise BadInput(
            f"{what} has no weights and answers from an object of {kinds}, which cannot be told from another one of "
            "its kind: results of two files or endpoints would be taken for those of one model. Say what it answers "
            'from: assay.load_model(model, identity="sha256 of the file, or address and version"), or '
            "assay.Classifier(module, identity=...) from a factory."
        )


def _attributes(module: nn.Module) -> list[Any]:
    # torch's modules, and ours, print what they are
    return [
        (name, key, value)
        for name, one in module.named_modules()
        if not type(one).__module__.startswith(("torch.", "assay."))
        for key, value in sorted(vars(one).items())
        if key not in _USUAL and not isinstance(value, nn.Module | Tensor)
    ]


class _Facts:
    """A walk through values: what is told about them, and the kinds of those about which nothing can be."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._content = hashlib.blake2b(digest_size=8)
        self._told = 0
        self._seen: set[int] = set()

    @staticmethod
    def of(value: Any) -> _Facts:
        found = _Facts()
        found._look(value, 0, value)
        return found

    @property
    def digest(self) -> str:
        return self._content.hexdigest() if self._told else ""

    def _look(self, value: Any, depth: int, whole: Any) -> None:
        if isinstance(value, (nn.Module, type, ModuleType)) or inspect.isbuiltin(value):
            return
        fact = _fact(value)
        if fact is not None:
            self._tell(fact)
            return
        if id(value) in self._seen or depth > _DEPTH:
            return
        self._seen.add(id(value))
        inside = _inside(value)
        if inside is not None:
            for one in inside:
                self._look(one, depth + 1, whole)
        elif value is not whole:
            self._tell(self._pickled(value))

    def _tell(self, fact: bytes) -> None:
        self._told += 1
        self._content.update(fact)

    def _pickled(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value, protocol=4)
        except Exception:
            # a session, a client: its kind is all there is to tell, and `identity` says the rest
            kind = type(value)
            if kind.__module__ in _BESIDE:
                return b""
            self.unknown.append(f"{kind.__module__}.{kind.__qualname__}")
            return kind.__qualname__.encode()


def _inside(value: Any) -> list[Any] | None:
    # None: an object of its own kind, which is not taken apart
    if isinstance(value, dict):
        return [one for pair in value.items() for one in pair]
    if isinstance(value, (list, tuple)):
        return list(value)
    if inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, functools.partial):
        return list(referred(value))
    if hasattr(value, "__dict__"):
        return [one for pair in sorted(vars(value).items()) for one in pair]
    return None


def _fact(value: Any) -> bytes | None:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return f"{type(value).__name__} {value!r};".encode()
    if isinstance(value, Tensor):
        return None if value.is_meta or value.layout is not torch.strided else _fact(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape};".encode() + np.ascontiguousarray(value).tobytes()
    return None
