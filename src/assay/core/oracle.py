"""The oracle: the only caller of the model.

It answers `look(points, goal, objective, access, draws)` with logits, objective, verdict and, where asked, the
gradient with respect to the input, and says what the look cost. It is stateless: costs come back in the answer.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import enum
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from assay.core.answers import ONE_SCORE, checked_logits, gives_one_score
from assay.core.draws import Draws, drawing
from assay.core.edges import AT_BOUNDS, INSIDE, EdgeGradients, edges_without_slope
from assay.core.errors import ModelError
from assay.core.form import Form, Weights, outside, plainly, precision_of, settled, unstated
from assay.core.goal import Goal
from assay.core.held import frozen
from assay.core.objective import Objective
from assay.core.tensors import counts, take


class Access(enum.IntEnum):
    """What an attack may see: the label alone, the scores, or the gradient as well."""

    LABELS = 0
    SCORES = 1
    GRADIENT = 2


class Cost(NamedTuple):
    """What one look cost, int64 `[N]`: passes of the innermost network forward and backward, and rows asked about.

    A defence that shows the network several copies of an image costs more passes than rows.
    """

    forwards: Tensor
    backwards: Tensor
    queries: Tensor

    def plus(self, other: Cost) -> Cost:
        """Return the cost of both."""
        return Cost(*(one + more for one, more in zip(self, other, strict=True)))

    @classmethod
    def nothing(cls, points: Tensor) -> Cost:
        """Return the cost of a look that was known before."""
        return cls(counts(points), counts(points), counts(points))


class LookPasses(NamedTuple):
    """Passes of the innermost network in one look: forwards, backwards for a gradient, and backwards in any case.

    `climbing` are the forwards of a look with a gradient, None where they are those of any look.
    """

    forwards: int = 1
    backwards: int = 1
    always: int = 0
    climbing: int | None = None

    def inside(self, outer: LookPasses) -> LookPasses:
        """Return those of a step that shows `outer.forwards` copies to what has these."""
        same = self.climbing is None and outer.climbing is None
        return LookPasses(
            self.forwards * outer.forwards,
            self.backwards * outer.backwards,
            self.always * outer.forwards + outer.always,
            None if same else self.with_gradient * outer.with_gradient,
        )

    @property
    def with_gradient(self) -> int:
        """Forwards of a look with a gradient."""
        return self.forwards if self.climbing is None else self.climbing


ONE_PASS = LookPasses()

_MORE: contextvars.ContextVar[list[Tensor] | None] = contextvars.ContextVar(
    "passes of the call under way", default=None
)


def took_more(forwards: Tensor) -> None:
    """Say from inside a model that the images of a call took so many forwards (int64 `[N]`) beyond its `LookPasses`.

    For a model whose passes depend on the image. Said by what is asked first of all, whose rows are those of the look;
    where nobody keeps count, nothing happens.
    """
    told = _MORE.get()
    if told is not None:
        told.append(forwards.detach())


@contextlib.contextmanager
def _counting() -> Iterator[list[Tensor]]:
    told: list[Tensor] = []
    token = _MORE.set(told)
    try:
        yield told
    finally:
        _MORE.reset(token)


class Observation(NamedTuple):
    """What a look saw; every tensor is batch-first. `grad` is `[N, *S]`, or `[N, R, *S]` for a vector objective.

    `judged` is bool `[N]`: whether `logits` are those of the points themselves; None where all are.
    """

    logits: Tensor
    loss: Tensor
    gap: Tensor
    reached: Tensor
    grad: Tensor | None
    cost: Cost
    judged: Tensor | None = None


class Oracle(Protocol):
    """Anything that answers looks: the model itself, or an oracle around an oracle."""

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the model about `points` `[N, *S]`."""


@dataclasses.dataclass(frozen=True)
class TorchOracle:
    """The model as it is: `[N, C, H, W]` in, logits `[N, K]` out.

    `batch` bounds the rows of one pass (`None`: by the image size; none where the model answers `outside` of torch, and
    cuts requests itself). When memory runs out it is halved and the smaller
    size is remembered in `fits`; results do not depend on it beyond floating point. `cleaned=False` gives gradients
    as they are, NaN included: for who measures them, not for attacks. `reset` is called with the model before each
    pass, for models that keep a state. `gives` is the most that the model can answer. `told` collects what was done
    about gradients at the edges of the box, and `ONE_SCORE` where the model gives one score per image. `passes` are
    those of the innermost network in a look, and `random` says that the model draws numbers: from `draws.current`,
    which are those of the look. `rejects` says that its last class is a refusal.

    The model is asked in its own precision and in a layout that it can do, see `form`; answers and gradients are
    float32, or what the model gives where that is finer. Where values at the edge of the box get no gradient while
    others do, the gradient is taken a hair inside the box, by a pass that is counted; the point itself is judged.
    """

    model: nn.Module
    batch: int | None = None
    fits: list[int] = dataclasses.field(default_factory=list, compare=False, repr=False)
    cleaned: bool = True
    reset: Callable[[nn.Module], object] | None = None
    gives: Access = Access.GRADIENT
    told: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)
    passes: LookPasses = ONE_PASS
    random: bool = False
    rejects: bool = False

    def look(self, points: Tensor, goal: Goal, objective: Objective, access: Access, draws: Draws) -> Observation:
        """Ask the model; see `Oracle`.

        Raises `ModelError` for an output that is no `[N, K]` tensor, and for gradients of a model that has none.
        """
        if access is Access.GRADIENT and self.gives is not Access.GRADIENT:
            raise ModelError(
                f"The model gives {self.gives.name.lower()} and no gradients, which this attack asks for. Use an "
                "attack that needs less (`assay attacks` lists what each needs), or make the images on a surrogate."
            )
        together = self.outside and access is not Access.GRADIENT
        usual = len(points) if together else micro_batch(points, access is Access.GRADIENT, self.passes.backwards)
        size = min([self.batch or usual, *self.fits])
        climbed = objective if access is Access.GRADIENT else None
        parts: list[_Part] = []
        at = 0
        while at < len(points):
            here = slice(at, min(at + size, len(points)))
            try:
                parts.append(self._part(points, here, goal, climbed, draws))
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = max(1, (here.stop - at) // 2)
                self.fits.append(size)
                continue
            at = here.stop
        # judged together: the goal's small sums would cost as much for each part
        part = parts[0] if len(parts) == 1 else _join(parts)
        loss = objective(part.logits, goal) if part.loss is None else part.loss
        cost = self._cost(part)
        return Observation(part.logits, loss, goal.gap(part.logits), goal.reached(part.logits), part.grad, cost)

    def answers(self, images: Tensor) -> Tensor:
        """Return the logits `[N, K]` of a few images, in one pass that nobody is billed for."""
        with torch.no_grad():
            return self._logits(images.detach(), self.form(images))

    def form(self, images: Tensor) -> Form:
        """Return the precision and layout in which the model is asked about images such as these.

        It is found by asking, but not where whoever asks pays, or where there is nothing to be found.
        """
        if self.outside or (self.gives is not Access.GRADIENT and self._unstated):
            return Form(precision_of(self.model) or images.dtype)
        rows = images[: self.batch] if self.batch else images
        stateful = self.reset is not None
        return settled(self.model, rows, self._weights, self._checked, stateful=stateful)

    @contextlib.contextmanager
    def ready(self, images: Tensor, form: Form | None = None) -> Iterator[Tensor]:
        """Give the images in the form in which the model is asked about them, with its weights in that form meanwhile.

        They are a copy: a model that normalises in place must change neither the query nor the caller's images.
        """
        form = form or self.form(images)
        with self._weights.lent() if form.private else contextlib.nullcontext():
            yield form.of(images)

    def _checked(self, images: Tensor) -> Tensor:
        output = self._asked(images)
        if gives_one_score(output, len(images)):
            self.told.add(ONE_SCORE)
        return checked_logits(output, len(images))

    @functools.cached_property
    def outside(self) -> bool:
        """Whether the model answers outside of torch: it is asked by looks alone, with all rows at once."""
        return outside(self.model)

    @functools.cached_property
    def _unstated(self) -> bool:
        return unstated(self.model)

    @functools.cached_property
    def _weights(self) -> Weights:
        return Weights(self.model)

    @functools.cached_property
    def _overridable(self) -> bool:
        # compiled code does not see functions that stand in for torch's own
        return not any(
            isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"
            for module in self.model.modules()
        )

    def _asked(self, images: Tensor) -> object:
        if self.reset is not None:
            self.reset(self.model)
        try:
            return self.model(images)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise ModelError(
                "The model computes gradients of its own weights in its forward (test-time adaptation, a training step "
                "left in), and weights are held still while it is attacked. Evaluate the adapted weights, or compute "
                "inside torch.enable_grad() on copies of them that require gradients."
            ) from error

    def _cost(self, part: _Part) -> Cost:
        one = self.passes
        if one == ONE_PASS:
            return Cost(part.forwards + part.more, part.backwards, part.forwards)
        each = one.forwards if part.grad is None else one.with_gradient
        return Cost(
            part.forwards * each + part.more,
            part.backwards * one.backwards + part.forwards * one.always,
            part.forwards,
        )

    def _part(self, points: Tensor, rows: slice, goal: Goal, climbed: Objective | None, draws: Draws) -> _Part:
        if self.random:
            with drawing(dataclasses.replace(draws, ids=draws.ids[rows])):
                return self._seen(points, rows, goal, climbed)
        return self._seen(points, rows, goal, climbed)

    def _seen(self, points: Tensor, rows: slice, goal: Goal, climbed: Objective | None) -> _Part:
        part = points[rows].detach()
        form = self.form(part)
        whole = len(part) == len(points)
        own = goal if whole else take(goal, torch.arange(rows.start, rows.stop, device=points.device))
        try:
            seen = self._pass(part, form, own, climbed)
        except RuntimeError as error:
            if not form.private or out_of_memory(error):
                raise
            form = plainly(self.model, part, form)
            seen = self._pass(part, form, own, climbed)
        if seen.grad is None or climbed is None:
            return seen
        at, inside = edges_without_slope(seen.grad, part)
        if not len(at):
            return seen
        self.told.add(INSIDE)
        again = self._pass(inside, form, take(own, at), climbed)
        assert again.grad is not None, "it was asked for"
        grad = seen.grad.index_copy(0, at, again.grad)
        spent = ((seen.forwards, again.forwards), (seen.backwards, again.backwards), (seen.more, again.more))
        return _Part(seen.logits, seen.loss, grad, *(old.index_add(0, at, new) for old, new in spent))

    def _pass(self, part: Tensor, form: Form, goal: Goal, climbed: Objective | None) -> _Part:
        part = part.requires_grad_(climbed is not None)
        with torch.set_grad_enabled(climbed is not None):
            with _counting() as told:
                logits = self._logits(part, form)
            more = sum(told, start=counts(part))
            if climbed is None:
                return _Part(logits.detach(), None, None, counts(part, 1), counts(part), more)
            loss = climbed(logits, goal)
            grad, backwards = input_gradient(loss, part, self.cleaned)
        return _Part(logits.detach(), loss.detach(), grad, counts(part, 1), counts(part, backwards), more)

    def _logits(self, part: Tensor, form: Form) -> Tensor:
        with contextlib.ExitStack() as stack:
            images = stack.enter_context(self.ready(part, form))
            edges = None
            if part.requires_grad and self._overridable:
                edges = stack.enter_context(EdgeGradients(images))
            logits = self._checked(images)
        if edges is not None and edges.met:
            self.told.add(AT_BOUNDS)
        return logits


class _Part(NamedTuple):
    # of a look; what is not asked for is None
    logits: Tensor
    loss: Tensor | None
    grad: Tensor | None
    forwards: Tensor
    backwards: Tensor
    more: Tensor


def micro_batch(points: Tensor, backward: bool = True, copies: int = 1) -> int:
    """Return how many rows to pass at once: near the fastest measured on CPUs, larger on accelerators.

    Passes without a `backward` keep no activations in the caches, and small networks gain by fewer of them. With one,
    the activations of all `copies` that a look shows the network are kept.
    """
    values = max(1, math.prod(points.shape[1:])) * (max(1, copies) if backward else 1)
    most = (40 if backward else 100) if points.device.type == "cpu" else 1024
    budget = 2_400_000 if points.device.type == "cpu" else 40_000_000
    return max(1, min(most, budget // values))


def input_gradient(loss: Tensor, points: Tensor, cleaned: bool = True) -> tuple[Tensor, int]:
    """Return the gradient of `loss` (`[N]` or `[N, R]`) per row, and how many backward passes it took.

    Unless `cleaned` is False, values that are not finite become 0 or very large: one NaN must not end a sample's
    attack and flatter the model.
    Raises `ModelError` where autograd was kept from seeing the model: an attack on it would move nothing.
    """
    columns = [loss] if loss.ndim == 1 else list(loss.unbind(1))
    grads = []
    for i, column in enumerate(columns):
        if not column.requires_grad:
            raise ModelError(
                "The model's output has no gradient: its forward detaches it or runs under torch.no_grad() or "
                "inference_mode (leave it, and do not call inside it), or does not depend on the image at all. "
                "Gradient attacks cannot measure such a model."
            )
        more = i + 1 < len(columns)
        (grad,) = torch.autograd.grad(column.sum(), points, retain_graph=more, materialize_grads=True)
        grads.append(grad.nan_to_num(0.0, 1e15, -1e15) if cleaned else grad)
    if loss.ndim == 1:
        return grads[0], 1
    return (grads[0][:, None] if len(grads) == 1 else torch.stack(grads, 1)), len(columns)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that a smaller batch could work."""
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in signs)


def _join(parts: list[_Part]) -> _Part:
    logits, losses, grads, *spent = zip(*parts, strict=True)
    loss = None if losses[0] is None else torch.cat(losses)
    grad = None if loss is None else torch.cat(grads)
    return _Part(torch.cat(logits), loss, grad, *map(torch.cat, spent))


__all__ = [
    "Access",
    "Cost",
    "TorchOracle",
    "Oracle",
    "Observation",
    "checked_logits",
    "frozen",
    "input_gradient",
    "micro_batch",
    "out_of_memory",
]

_OLD_NAMES = {"Seen": "Observation", "Direct": "TorchOracle"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # names until 0.2, in attacks that users have written
        if name not in _OLD_NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(f"{__name__}.{name} is called {_OLD_NAMES[name]} now.", DeprecationWarning, stacklevel=2)
        return globals()[_OLD_NAMES[name]]
