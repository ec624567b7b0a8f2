"""A model held still while it is measured, and given back exactly as it was."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def frozen(
    model: nn.Module, *, training: bool | None = False, device: torch.device | None = None, copied: bool = False
) -> Iterator[nn.Module]:
    """Hold the model still while it is measured: parameters without gradients, every module in eval mode.

    `training=None` leaves the modes as they are (for the inner search of adversarial training). On leaving, also by an
    exception, everything is as before: modes, flags, hooks, attributes, buffers and what they hold. A module without a
    mode of its own (a frozen TorchScript module, an exported program) keeps the one it was made with. With a `device`
    the model computes there meanwhile, on copies of its parameters and buffers. `copied` says that its forward writes
    to its parameters, so that they are put back too.
    """
    kept = Kept.of(model, parameters=copied)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        if training is not None:
            set_mode(model, training)
        for parameter, flag in flags:
            if flag:
                parameter.requires_grad_(False)
        if device is not None:
            _compute_on(model, device)
        yield model
    finally:
        # a mode set by train() may do more than set it: it is undone the same way, before all else is put back
        if training is not None and kept.mode is not None and kept.mode is not training:
            set_mode(model, kept.mode)
        kept.restore()
        for parameter, flag in flags:
            if parameter.requires_grad is not flag:
                parameter.requires_grad_(flag)


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a model was when it was handed over: the attributes of every module, and the values of its buffers.

    Containers among the attributes (parameters, buffers, hooks, a cache of the user's own) are kept with what they
    hold. Parameters are not copied, but those of a module with a `train` of its own, which may change them.
    """

    mode: bool | None
    attributes: tuple[tuple[nn.Module, dict[str, Any], dict[str, Any]], ...]
    values: tuple[tuple[Tensor, Tensor], ...]

    @staticmethod
    def of(model: nn.Module, *, parameters: bool = False) -> Kept:
        """Return what `model` is now, with the values of all its parameters if so told."""
        attributes: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = []
        tensors: dict[int, Tensor] = {}
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                held: dict[str, Any] = {"training": module.training} if hasattr(module, "training") else {}
                attributes.append((module, held, {}))
            else:
                held = dict(module.__dict__)
                inside = {name: _content(value) for name, value in held.items() if type(value) in _CONTAINERS}
                attributes.append((module, held, inside))
                tensors.update({id(one): one for one in held.values() if isinstance(one, Tensor)})
            if type(module).train is not nn.Module.train and not isinstance(module, torch.jit.ScriptModule):
                tensors.update({id(one): one for one in module.parameters(recurse=False)})
        tensors.update({id(one): one for one in (*model.buffers(), *(model.parameters() if parameters else ()))})
        values = tuple((one, one.detach().clone()) for one in tensors.values() if _plain(one))
        return Kept(getattr(model, "training", None), tuple(attributes), values)

    def restore(self, *, everything: bool = False) -> None:
        """Put back what belongs to a network; with `everything` also the numbers and lists that a forward counts in."""
        for module, held, inside in self.attributes:
            if isinstance(module, torch.jit.ScriptModule):
                for name, value in held.items():
                    setattr(module, name, value)
                continue
            now = module.__dict__
            if everything:
                if not _same(now, held):
                    now.clear()
                    now.update(held)
            else:
                for name in [one for one in now if one not in held and _is_state(now[one])]:
                    del now[name]
                for name, value in held.items():
                    if name not in now or (now[name] is not value and (_is_state(value) or _is_state(now[name]))):
                        now[name] = value
            for name, content in inside.items():
                if everything or name in _OWN:
                    _refill(held[name], content)
        for value, before in self.values:
            if not _equal(value, before):
                with torch.no_grad():
                    value.copy_(before)

    def changed(self) -> list[str]:
        """Return the names of attributes and buffers, `TYPE.name`, that are no longer what they were."""
        names = []
        was = {id(value): before for value, before in self.values}
        for module, held, inside in self.attributes:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            now = {**module.__dict__, **module.__dict__["_buffers"]}
            before = {**held, **inside.get("_buffers", {})}
            for name, value in now.items():
                old = before.get(name, _NOTHING)
                same = value is old
                if same and name in inside and name not in _OWN and _holds_tensors(value):
                    same = _unchanged(value, inside[name])
                if isinstance(value, Tensor) and same and id(value) in was:
                    same = _equal(value, was[id(value)])
                if not same and _is_state(value):
                    names.append(f"{type(module).__name__}.{name}")
        return names


_NOTHING = object()
# the attributes that make a module: parameters, buffers, children, hooks
_OWN = frozenset(nn.Module().__dict__)
_CONTAINERS = (dict, list, set, type(nn.Module()._forward_hooks))


def _content(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else type(value)(value)


def _same(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return len(now) == len(before) and all(key in now and now[key] is value for key, value in before.items())


def _unchanged(container: Any, content: Any) -> bool:
    if isinstance(container, dict):
        return _same(container, content)
    return len(container) == len(content) and all(a is b for a, b in zip(container, content, strict=True))


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if not _same(container, content) or list(container) != list(content):
            container.clear()
            container.update(content)
    elif isinstance(container, list):
        if len(container) != len(content) or any(a is not b for a, b in zip(container, content, strict=True)):
            container[:] = content
    elif {id(one) for one in container} != {id(one) for one in content}:
        container.clear()
        container.update(content)


def _is_state(value: Any) -> bool:
    # a number that a forward counts in is its user's business; tensors, and a mode, are the network's
    return isinstance(value, (Tensor, nn.Module, bool)) or _holds_tensors(value)


def _holds_tensors(value: Any) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(isinstance(one, Tensor) for one in inside)


def _equal(value: Tensor, before: Tensor) -> bool:
    now = value.detach()
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    return torch.equal(now, before) or (now.dtype.is_floating_point and torch.allclose(now, before, 0, 0, True))


def _plain(value: Tensor) -> bool:
    # a tensor without storage, or of a layout or kind that cannot be compared, is left to itself
    return value.layout is torch.strided and not value.is_meta and not value.is_quantized


def _compute_on(model: nn.Module, device: torch.device) -> None:
    # a tied parameter stays one: by its identity
    moved: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            model.to(device)
            return
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.device != device:
                copy = moved.setdefault(id(parameter), nn.Parameter(parameter.detach().to(device), requires_grad=False))
                module._parameters[name] = copy
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.device != device:
                module._buffers[name] = moved.setdefault(id(buffer), buffer.detach().to(device))


def set_mode(model: nn.Module, training: bool) -> None:
    """Put every module into train or eval mode, as `train` does, but for those that have no mode to be set."""
    if all(getattr(module, "training", training) is training for module in model.modules()):
        # eval() of a model that is in eval mode already may still do something: it is not asked
        return
    try:
        model.train(training)
    except (NotImplementedError, AttributeError, RuntimeError):
        # an exported program refuses, and a frozen TorchScript module has no mode; the others are set one by one
        for module in model.modules():
            if "training" in getattr(module, "__dict__", {}):
                module.training = training


__all__ = ["Kept", "frozen", "set_mode"]
