"""Guides: networks with useful gradients that can be had from a model, to lead attacks on the model itself.

Three kinds are looked for. A network inside the model: a part that takes images and gives as many scores as there are
classes, be it a submodule or held out of sight in a list, an attribute or a closure. Features inside the model: the
last hidden layer of a row per image, read by the means of the classes; whatever comes after it (nearest neighbours,
votes, codes) need not have a gradient. And slopes as wide as the activations vary, through parts that torch does not
know: rounding, stairs and detached steps have no others.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.bypass import Cut, PastDefense, accepted
from assay.audit.subject import Subject
from assay.core.answers import checked_logits, gives_one_score
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.goal import Goal
from assay.core.objective import Objective
from assay.core.oracle import Access, Observation, Oracle
from assay.core.tensors import valued
from assay.models.deployed import twins_alone
from assay.models.static_batch import StaticBatch

NETWORKS, WATCHED, _LEAST_FEATURES = 2, 8, 4
_SAME_ANSWER, _SAME_SLOPE = 0.999, 0.9
_DEEP, _MOST_HELD = 4, 64
"""So many networks inside a model are tried one by one, besides their mean."""


@dataclasses.dataclass(frozen=True)
class Guided:
    """The answers of `oracle` with objective and gradient of `guide`, which refuses nothing.

    An attack on another network alone ends where that network errs; what stands around it may need an image that it is
    surer about, or less sure. Guided by it, the attack goes on until the model errs. Costs the passes of both.
    """

    oracle: Oracle
    guide: Oracle

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the model, and for gradients the guide; see `Oracle`."""
        seen = self.oracle.look(points, goal, objective, min(access, Access.SCORES), draws)
        if access is not Access.GRADIENT:
            return seen
        # of a model that answers outside of torch, what leads is inside its twin
        with twins_alone():
            other = self.guide.look(points, accepted(goal), objective, access, draws)
        return seen._replace(loss=other.loss, grad=other.grad, cost=seen.cost.plus(other.cost))


@dataclasses.dataclass(frozen=True)
class Guide:
    """A network that leads: what it is called, a reason, and what asks the model and takes its gradients.

    `per_look` are the passes of a look with a gradient, of which a meter counts two where more are `hidden`.
    """

    name: str
    why: str
    oracle: Guided
    per_look: int = 2


@dataclasses.dataclass(frozen=True)
class _Part:
    # what went through a part of the model: the first call that took images, and the last answer of all
    name: str
    module: nn.Module
    images: Tensor | None
    answer: Tensor


class Averages(nn.Module):
    """The mean of what several networks answer, each in units of its own spread."""

    def __init__(self, networks: list[nn.Module], spreads: list[float]) -> None:
        super().__init__()
        self.networks, self.spreads = nn.ModuleList(networks), spreads

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `[N, K]` of images `x`."""
        each = [network(x) / spread for network, spread in zip(self.networks, self.spreads, strict=True)]
        return torch.stack(each).mean(0)


class ClassMeans(nn.Module):
    """A hidden layer of a model, and the class whose mean there is nearest."""

    def __init__(self, module: nn.Module, layer: nn.Module, means: Tensor, spread: Tensor) -> None:
        super().__init__()
        # the layer stands inside the module already
        self.module, self.layers, self.means, self.spread = module, (layer,), means, spread

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `[N, K]` of images `x`: a class without a mean is far below all others."""
        found = _layer(self.module, self.layers[0], x) / self.spread
        scores = found @ self.means.nan_to_num().T - self.means.nan_to_num().square().sum(1) / 2
        return torch.where(self.means.isnan().any(1), -1e4, scores)


class WideSlopes(nn.Module):
    """A model as it answers, with the slope of some of its parts taken over the spread of what enters them."""

    def __init__(self, module: nn.Module, parts: list[nn.Module]) -> None:
        super().__init__()
        self.module, self.parts = module, parts

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of images `x`."""
        hooks = [part.register_forward_hook(_widened) for part in self.parts]
        try:
            return self.module(x)  # type: ignore[no-any-return]  # what a module returns is untyped
        finally:
            for hook in hooks:
                hook.remove()


def _widened(part: nn.Module, given: tuple[Any, ...], answer: Any) -> Any:
    h = given[0]
    if not isinstance(answer, Tensor) or answer.shape != h.shape:
        return answer
    with torch.no_grad():
        width = h.std().clamp_min(1e-6)
        slope = (part.forward(h + width, *given[1:]) - part.forward(h - width, *given[1:])) / (2 * width)
    return valued(h * slope, answer.detach())


def guides(subject: Subject) -> list[Guide]:
    """Return what can lead on a model: at most `NETWORKS` networks inside and their mean, features, wide slopes.

    Costs one pass for each image of the subject where there are features, and a few more. Nothing leads on a model that
    gives no gradients: it is not looked into either, since each look may be billed.
    """
    if subject.gives is not Access.GRADIENT:
        return []
    try:
        # what is inside a model that answers outside of torch is inside its twin
        with twins_alone():
            return list(_guides(subject))
    except (RuntimeError, AssayError):
        # a model that cannot be watched; what leads on it must come from elsewhere
        return []


def _guides(subject: Subject) -> Iterator[Guide]:
    module, x = subject.module, subject.problem.x[: min(WATCHED, subject.batch or WATCHED)]
    # between two images most models are less sure, and what switches on that shows
    shown = torch.cat([x, (x + x.roll(1, 0)) / 2])[: subject.batch or 2 * WATCHED]
    parts, logits = watched(module, shown)
    own = _slope(module, shown)
    subject.meter.spent[0] += 2 * len(shown)
    kept: list[_Part] = []
    for one in (_whole(part, len(logits)) for part in parts if not _is_asked_in_pieces(part, logits)):
        # one inside another that gives the same is the same
        if _is_network(one, logits) and not any(_alike(one.answer, other.answer) for other in kept):
            network, _ = _alone(module, one, shown)
            subject.meter.spent[0] += len(shown)
            # what answers and leads as the model does is the model
            if not _alike(one.answer, logits) or _cosine(_slope(network, shown), own) < _SAME_SLOPE:
                kept.append(one)
    asked = [_alone(module, one, shown) for one in kept[:NETWORKS]]
    if len(asked) > 1:
        spreads = [float(one.answer.std().clamp_min(1e-6)) for one in kept[:NETWORKS]]
        yield _led(subject, "the networks inside", Averages([one for one, _ in asked], spreads), 1 + len(asked))
    for part, (network, passes) in zip(kept, asked, strict=False):
        yield _led(subject, part.name, network, 1 + passes)
    strange = [one.module for one in parts if _is_strange(one.module)]
    if strange:
        yield _led(subject, "slopes as wide as activations", WideSlopes(module, strange), 2)
    if (means := _class_means(subject, parts, logits)) is not None:
        yield _led(subject, "class means of features", means, 2)


def _led(subject: Subject, name: str, module: nn.Module, per_look: int) -> Guide:
    # the pass that asks the model is counted; of a guide that takes several, one
    why = "the model answers around something with gradients to follow"
    # how the whole begins again is no way for a part; a state that is kept leads elsewhere, and judges nothing
    asked = dataclasses.replace(subject.asking(module), reset=None)
    return Guide(name, why, Guided(subject.meter.oracle, asked), per_look)


def parts_of(module: nn.Module) -> dict[str, nn.Module]:
    """Return every part of a model by name: its submodules, and those that it holds where torch does not look.

    Those are reached through attributes, lists, tuples, dictionaries, closures, partial functions and methods.
    """
    found = {name: child for name, child in module.named_modules() if name}
    known = {id(child) for child in module.modules()}
    held = [(name or type(module).__name__, child, 0) for name, child in module.named_modules()]
    while held:
        name, holder, depth = held.pop()
        for at, value in _values(holder):
            if isinstance(value, nn.Module) and id(value) not in known:
                for below, child in value.named_modules(prefix=f"{name}.{at}"):
                    if id(child) not in known:
                        known.add(id(child))
                        found[below] = child
                        held.append((below, child, 0))
            elif depth < _DEEP and not isinstance(value, nn.Module):
                held.append((f"{name}.{at}", value, depth + 1))
    return found


def _values(holder: object) -> list[tuple[str, object]]:
    """Return what an object holds that may hold a network."""
    if isinstance(holder, nn.Module):
        own = {name: value for name, value in vars(holder).items() if not name.startswith("_") or name == "_fn"}
        return [(name, value) for name, value in own.items() if not isinstance(value, Tensor)]
    if isinstance(holder, list | tuple | set):
        return [(str(i), one) for i, one in enumerate(holder)][:_MOST_HELD]
    if isinstance(holder, dict):
        return [(str(key), one) for key, one in holder.items()][:_MOST_HELD]
    if isinstance(holder, functools.partial):
        return [("function", holder.func), ("given", holder.args), ("named", holder.keywords)]
    if isinstance(holder, types.MethodType):
        return [("self", holder.__self__)]
    if isinstance(holder, types.FunctionType):
        cells = [cell.cell_contents for cell in holder.__closure__ or () if _filled(cell)]
        return [*zip(holder.__code__.co_freevars, cells, strict=False), ("defaults", holder.__defaults__ or ())]
    return []


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def watched(module: nn.Module, x: Tensor) -> tuple[list[_Part], Tensor]:
    """Return what went through the parts of a model in one pass of images `x`, in that order, and its logits."""
    images: dict[str, Tensor] = {}
    answers: dict[str, Tensor] = {}
    every = parts_of(module)

    def passed(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
            if given and isinstance(given[0], Tensor) and given[0].shape[1:] == x.shape[1:] and given[0].ndim > 2:
                images.setdefault(name, given[0].detach())
            if isinstance(answer, Tensor):
                answers.pop(name, None)
                answers[name] = answer.detach()

        return hook

    hooks = [child.register_forward_hook(passed(name)) for name, child in every.items()]
    try:
        with torch.no_grad():
            output = module(x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    logits = checked_logits(output, len(x)).detach()
    logits = logits[:, 1:] if gives_one_score(output, len(x)) else logits
    return [_Part(name, every[name], images.get(name), answer) for name, answer in answers.items()], logits


def _is_network(part: _Part, logits: Tensor) -> bool:
    scores = part.answer.ndim == 2 and part.answer.shape[1] == logits.shape[1]
    return part.images is not None and scores and any(True for _ in part.module.parameters())


def _is_asked_in_pieces(part: _Part, logits: Tensor) -> bool:
    """Whether a part is the model, a few images at a time: its last answer is that to the last of them."""
    return len(part.answer) < len(logits) and _is_network(part, logits) and _alike(part.answer[-1:], logits[-1:])


def _whole(part: _Part, rows: int) -> _Part:
    # one that is asked a few images at a time may take no others
    if part.images is None or len(part.images) >= rows or len(part.answer) != len(part.images):
        return part
    return dataclasses.replace(part, module=StaticBatch(part.module, len(part.images)))


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two answers are the same but for a scale and a shift of each row."""
    if a.shape != b.shape:
        return False
    each = torch.nn.functional.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), 1)
    return bool((each > _SAME_ANSWER).all())


def _slope(module: nn.Module, x: Tensor) -> Tensor:
    """Return the gradient of the gap between the two highest scores; zero where there is none."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        top = checked_logits(module(x), len(x)).topk(2, 1).values
        gap = (top[:, 0] - top[:, 1]).sum()
        if not gap.requires_grad:
            return torch.zeros_like(x)
        (slope,) = torch.autograd.grad(gap, x, materialize_grads=True)
    return slope.detach()


def _cosine(a: Tensor, b: Tensor) -> float:
    each = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), 1)
    # nothing is as steep as nothing
    return float(torch.where(a.flatten(1).any(1) | b.flatten(1).any(1), each, 1).median())


def _alone(module: nn.Module, part: _Part, x: Tensor) -> tuple[nn.Module, int]:
    """Return a network inside as one that takes the model's images, and its passes in a look."""
    assert part.images is not None, "it takes images"
    submodule = any(child is part.module for child in module.modules())
    if not submodule or part.images.shape != x.shape or torch.allclose(part.images, x, atol=1e-6):
        return part.module, 1
    # what it is given is no longer the image: the way there counts as the identity
    return PastDefense(module, Cut(part.name, 1, True, part.name)), 2


def _is_strange(part: nn.Module) -> bool:
    known = type(part).__module__.startswith("torch.")
    return not known and not any(True for _ in part.children()) and not any(True for _ in part.parameters())


def _class_means(subject: Subject, parts: list[_Part], logits: Tensor) -> ClassMeans | None:
    hidden = [
        one
        for one in parts
        if one.answer.ndim == 2 and len(one.answer) == len(logits) and one.answer.shape[1] != logits.shape[1]
    ]
    hidden = [one for one in hidden if one.answer.shape[1] >= _LEAST_FEATURES and float(one.answer.std()) > 0]
    y = getattr(subject.problem.goal, "y", None)
    if not hidden or y is None or len(y.unique()) < 2:
        return None
    layer, size = hidden[-1].module, subject.batch or 100
    with torch.no_grad():
        found = torch.cat([_layer(subject.module, layer, part) for part in torch.split(subject.problem.x, size)])
    subject.meter.spent[0] += len(found)
    spread = found.std(0).clamp_min(1e-3 * float(found.std()) + 1e-12)
    means = torch.full((subject.classes, found.shape[1]), torch.nan, dtype=found.dtype, device=found.device)
    for k in y.unique().tolist():
        means[k] = (found / spread)[y == k].mean(0)
    return ClassMeans(subject.module, layer, means, spread)


def _layer(module: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, answer: seen.append(answer))
    try:
        module(x)
    finally:
        hook.remove()
    return seen[-1]
