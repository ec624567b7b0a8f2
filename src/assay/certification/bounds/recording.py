"""A network's operations, recorded while it answers: whatever its Python does, torch sees these alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assay.certification.bounds.operations import Operation, Reshape
from assay.core.errors import BadInput

Read = Callable[[Any], Any]
"""Returns a constant: a number, a parameter as it is now, or what the network computes from parameters."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One recorded operation: `make(read)` returns it with its weights, `inputs` are the steps that it takes (0 is the
    image), `shape` that of its output without the batch, `layer` where it stands in the network.
    """

    make: Callable[[Read], Operation]
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    layer: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that depends on the image: its name and arguments, what came out, and the shapes that go with them."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    out: Tensor
    layer: str
    number_of: Callable[[Any], int | None]

    def arg(self, place: int, default: Any = None, name: str = "") -> Any:
        """Return the argument at a place, or of a name, or its default."""
        return self.args[place] if len(self.args) > place else self.options.get(name, default)

    def depends(self, value: Any) -> bool:
        """Whether a value depends on the image."""
        return self.number_of(value) is not None

    def refused(self, why: str) -> BadInput:
        """Return the error that names this layer."""
        return refusal(self.layer, f"{self.name.removeprefix('aten.')} {why}")


class Known(NamedTuple):
    """How to make the operation of a call, and which of its arguments are its inputs.

    `shape` is that of its output where the call's own output has the same values in another one.
    """

    make: Callable[[Read], Operation]
    inputs: tuple[Any, ...]
    shape: tuple[int, ...] | None = None


Handler = Callable[[Call], Known]
"""Reads a call. Raises `BadInput` where it is none that bounds know."""


def refusal(layer: str, what: str) -> BadInput:
    """Return the error for an operation of which bounds know nothing, with the layer and the way out."""
    return BadInput(
        f"There are no bounds for this network: {what}, in {layer}. Bounds know convolution, linear layers, batch norm "
        "in eval mode, average pooling, flatten, ReLU, sums, dropout in eval mode and scaling by constants. Replace "
        "the layer by one of these (max pooling by average pooling or by a stride, say) and train it again, or use "
        "randomised smoothing, which takes any network."
    )


# what asks of the image its shape and type alone
_SHAPE_ALONE = ("zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full")


@dataclasses.dataclass(frozen=True)
class _Computed:
    # a constant that the network computes from its parameters
    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]
    part: int | None


class Recorder(TorchDispatchMode):
    """Records what is done with `image` while it is entered; the steps of what `handlers` know."""

    def __init__(self, image: Tensor, handlers: dict[str, Handler], layer: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.steps: list[Step] = []
        self._handlers, self._layer, self._batch = handlers, layer, len(image)
        self._numbers: dict[int, int] = {id(image): 0}
        self._computed: dict[int, _Computed] = {}
        # tensors keep their identity as long as they live
        self._alive: list[Tensor] = [image]
        self._stale: set[int] = set()

    def number_of(self, value: Any) -> int | None:
        """Return the number of the step that a tensor comes from; None where it does not depend on the image."""
        return self._numbers.get(id(value)) if isinstance(value, Tensor) else None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the call, and record it."""
        options = kwargs or {}
        used = [one for one in _tensors(args, options) if id(one) in self._numbers]
        name = str(function).rpartition(".")[0]
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise refusal(self._layer(), f"{name.removeprefix('aten.')} draws random numbers")
        if any(id(one) in self._stale for one in used):
            raise refusal(self._layer(), "a value is used again after another view of it was written to")
        out = function(*args, **options)
        if used and name.removeprefix("aten.") not in _SHAPE_ALONE:
            self._record(name, function, args, options, out)
        else:
            self._remember(function, args, options, out)
        return out

    def read(self) -> Read:
        """Return a reader of constants; each is computed once per reader, with gradients where they are enabled."""
        known: dict[int, Any] = {}

        def read(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(read(one) for one in value)
            if not isinstance(value, Tensor) or id(value) not in self._computed:
                return value
            if id(value) not in known:
                one = self._computed[id(value)]
                result = one.function(*read(one.args), **{key: read(option) for key, option in one.options.items()})
                known[id(value)] = result if one.part is None else result[one.part]
            return known[id(value)]

        return read

    def _record(self, name: str, function: Any, args: Any, options: dict[str, Any], out: Any) -> None:
        layer = self._layer()
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if name not in self._handlers or not isinstance(first, Tensor):
            raise refusal(layer, f"{name.removeprefix('aten.')} is none of its operations")
        if first.ndim < 2 or len(first) != self._batch:
            raise refusal(layer, f"{name.removeprefix('aten.')} mixes the images of a batch")
        call = Call(name, args, options, first, layer, self.number_of)
        known, shape = self._handlers[name](call), tuple(first.shape[1:])
        numbers = tuple(number for one in known.inputs if (number := self.number_of(one)) is not None)
        between = known.shape
        self.steps.append(Step(known.make, numbers, between or shape, layer))
        if between is not None:
            self.steps.append(Step(lambda read: Reshape(between, shape), (len(self.steps),), shape, layer))
        if function._schema.is_mutable:
            self._overwritten(first)
        self._numbers[id(first)] = len(self.steps)
        self._alive.append(first)

    def _overwritten(self, written: Tensor) -> None:
        # views of the same memory hold other values now
        place = written.untyped_storage().data_ptr()
        for one in self._alive:
            if one is not written and one.untyped_storage().data_ptr() == place:
                self._stale.add(id(one))

    def _remember(self, function: Any, args: Any, options: dict[str, Any], out: Any) -> None:
        if function._schema.is_mutable:
            # its value now, not the one it was made with
            self._computed.pop(id(out), None)
            return
        several = isinstance(out, (tuple, list))
        for part, one in enumerate(out if several else [out]):
            if isinstance(one, Tensor) and not any(one is given for given in _tensors(args, options)):
                self._computed[id(one)] = _Computed(function, args, options, part if several else None)
                self._alive.append(one)


@contextlib.contextmanager
def layer_names(module: nn.Module) -> Iterator[Callable[[], str]]:
    """Yield a function that says which layer is being computed: `layer '3' (MaxPool2d)`."""
    inside: list[str] = []

    def enter(name: str, kind: str) -> Callable[..., None]:
        return lambda *_: inside.append(f"layer {name!r} ({kind})" if name else f"the forward of {kind}")

    hooks = []
    try:
        for name, part in module.named_modules():
            hooks.append(part.register_forward_pre_hook(enter(name, type(part).__name__)))
            hooks.append(part.register_forward_hook(lambda *_: inside.pop() and None))
        yield lambda: inside[-1] if inside else f"the forward of {type(module).__name__}"
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(args: Any, options: dict[str, Any]) -> Iterator[Tensor]:
    for one in (*args, *options.values()):
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from (part for part in one if isinstance(part, Tensor))
