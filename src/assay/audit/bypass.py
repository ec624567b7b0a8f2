"""Ways past what hides the gradient: the network inside a defence, found by watching one forward pass.

A defence is usually a module around a network: it changes the image before, or the logits after. `cut` finds the last
place where something of the image's shape enters a module, and the last module that returns logits; `PastDefense` is
the whole model forwards, whose gradient is that of what lies between, as if what comes before were the identity
(backward pass differentiable approximation, Athalye et al. 2018) and what comes after were not there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.answers import checked_logits, gives_one_score
from assay.core.draws import Draws
from assay.core.goal import Goal, Toward, Untargeted
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, Oracle
from assay.core.signals import Signals, excess_of, with_refusal
from assay.core.tensors import valued


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where the network inside begins and ends.

    `entry` is the module that something of the image's shape entered last, in its call number `call`; `changed` says
    that it was no longer the image. `exit` is the module that returned the logits first, None where that is the model.
    """

    entry: str | None
    call: int
    changed: bool
    exit: str | None


@dataclasses.dataclass(frozen=True)
class InsideBox:
    """An oracle whose gradients are those of points moved off the edge of [0, 1] by `by`; it judges the points."""

    oracle: Oracle
    by: float = 1 / 255

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask about the points, and for gradients beside them; see `Oracle`. Twice the passes."""
        if access is not Access.GRADIENT:
            return self.oracle.look(points, goal, objective, access, draws)
        seen = self.oracle.look(points, goal, objective, Access.SCORES, draws)
        beside = self.oracle.look(points.clamp(self.by, 1 - self.by), goal, objective, access, draws)
        return seen._replace(grad=beside.grad, cost=seen.cost.plus(beside.cost))


@dataclasses.dataclass(frozen=True)
class Accepting:
    """An oracle of a model that refuses nothing, asked for a goal of one that may: no class of its own is a refusal."""

    oracle: Oracle

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask about the goal without its refusal; see `Oracle`."""
        return self.oracle.look(points, accepted(goal), objective, access, draws)


def accepted(goal: Goal) -> Goal:
    """Return a goal of the classes alone."""
    return dataclasses.replace(goal, reject=None) if isinstance(goal, Untargeted | Toward) else goal


class ClassesAlone(nn.Module):
    """A model that may refuse, without its refusal."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        logits: Tensor = self.module(x)
        return logits[:, :-1]


class Weighed(nn.Module):
    """A model that may refuse, with how far it is from refusing counted `times` as much: no answer changes."""

    def __init__(self, module: nn.Module, times: float) -> None:
        super().__init__()
        self.module, self.times = module, times

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K + 1]` of images `x`, the last class "refused"."""
        logits: Tensor = self.module(x)
        return with_refusal(Signals(logits[:, :-1], self.times * excess_of(logits)))


def cut(module: nn.Module, x: Tensor) -> Cut:
    """Watch one forward pass on images `x` `[N, C, H, W]`."""
    entries: list[tuple[str, int, bool]] = []
    exits: list[tuple[str, Tensor]] = []
    calls: dict[str, int] = {}
    hooks = []

    def entered(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            if given and isinstance(given[0], Tensor) and given[0].shape == x.shape:
                entries.append((name, calls[name], not torch.allclose(given[0], x, atol=1e-6)))

        return hook

    def left(name: str) -> Any:
        def hook(_: nn.Module, __: Any, answer: Any) -> None:
            if isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == len(x):
                exits.append((name, answer.detach()))

        return hook

    for name, child in module.named_modules():
        if name:
            hooks += [child.register_forward_pre_hook(entered(name)), child.register_forward_hook(left(name))]
    try:
        output = module(x.clone())
        logits = checked_logits(output, len(x)).detach()
        # as the modules inside give it, for a model with one score per image
        logits = logits[:, 1:] if gives_one_score(output, len(x)) else logits
    finally:
        for hook in hooks:
            hook.remove()
    entry, call, changed = entries[-1] if entries else (None, 0, False)
    whole = [(name, answer) for name, answer in exits if answer.shape == logits.shape]
    return Cut(entry, call, changed, _exit(module, whole, logits))


def _exit(module: nn.Module, answers: list[tuple[str, Tensor]], logits: Tensor) -> str | None:
    """Return the last module whose answer is not yet the model's own, where nothing after it has weights."""
    after: list[str] = []
    for name, answer in reversed(answers):
        if not torch.equal(answer, logits):
            # after a hidden layer of as many units comes one with weights; what stands around it is not after it
            weighs = any(
                True
                for later in after
                if not name.startswith(f"{later}.")
                for _ in module.get_submodule(later).parameters()
            )
            return None if weighs else name
        after.append(name)
    return None


class PastDefense(nn.Module):
    """`module` as it answers, with the gradient of the network inside; see `cut`.

    Its logits are those of the exit, which an attack climbs in place of the model's own. Two forward passes for one.
    """

    def __init__(self, module: nn.Module, where: Cut) -> None:
        super().__init__()
        self.module = module
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        changed = self._entering(x) if self.where.entry is not None and self.where.changed else None
        return self._leaving(x, changed)

    def _entering(self, x: Tensor) -> Tensor:
        # what enters the network when the defence has done its work
        seen: list[Tensor] = []
        module = self.module.get_submodule(self.where.entry or "")
        hook = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        try:
            self.module(x.detach())
        finally:
            hook.remove()
        return seen[min(self.where.call, len(seen)) - 1]

    def _leaving(self, x: Tensor, changed: Tensor | None) -> Tensor:
        answers: list[Tensor] = []
        calls = [0]

        def enter(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            calls[0] += 1
            if calls[0] != self.where.call or changed is None:
                return None
            return (valued(x, changed), *given[1:])

        hooks = (
            [self.module.get_submodule(self.where.entry).register_forward_pre_hook(enter)]
            if (self.where.entry is not None)
            else []
        )
        if self.where.exit is not None:
            last = self.module.get_submodule(self.where.exit)
            hooks.append(last.register_forward_hook(lambda _, __, answer: answers.append(answer)))
        try:
            whole: Tensor = self.module(x)
        finally:
            for hook in hooks:
                hook.remove()
        return answers[-1] if answers else whole
