"""The form in which a model is asked: precision, layout, and whether it answers a question twice the same way."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, ModelError
from assay.core.held import Kept


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


# logits in another layout differ by rounding: by this much of the largest, a thousand times what was seen
_ALIKE = 1e-3


@dataclasses.dataclass(frozen=True)
class Form:
    """The precision that images are given in, and their layout; `private` says that weights are copies in it too."""

    dtype: torch.dtype
    layout: torch.memory_format = torch.contiguous_format
    private: bool = False

    def of(self, images: Tensor) -> Tensor:
        """Return the images in this form: a copy, which the model may write to."""
        given = images.to(self.dtype)
        # clone, unlike contiguous, lays out the strides of images of one channel too, which convolutions go by
        return given.clone(memory_format=self.layout if images.ndim == 4 else torch.preserve_format)

    @property
    def written(self) -> str:
        """How records say it: `float32` or `float32, channels last`."""
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}, channels last" if self.layout is torch.channels_last else name


_SETTLED: weakref.WeakKeyDictionary[nn.Module, dict[Any, Form]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass
class Weights:
    """A model's convolution weights in channels-last layout, lent to it for one call at a time."""

    model: nn.Module

    def __post_init__(self) -> None:
        self._copies: dict[int, tuple[nn.Parameter, int, nn.Parameter]] = {}
        self._places: list[tuple[dict[str, Any], str]] | None = None

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let the modules hold the copies; afterwards they hold their own parameters again."""
        if self._places is None:
            self._places = list(_places(self.model))
        swapped: list[tuple[dict[str, Any], str, nn.Parameter]] = []
        try:
            for parameters, name in self._places:
                own = parameters.get(name)
                if type(own) is nn.Parameter:
                    swapped.append((parameters, name, own))
                    parameters[name] = self._copy(own)
            yield
        finally:
            for parameters, name, own in swapped:
                parameters[name] = own

    def _copy(self, own: nn.Parameter) -> nn.Parameter:
        known = self._copies.get(id(own))
        if known is not None and known[0] is own and known[1] == own._version:
            return known[2]
        copy = nn.Parameter(own.detach().clone(memory_format=torch.channels_last), requires_grad=own.requires_grad)
        self._copies[id(own)] = (own, own._version, copy)
        return copy


def _places(model: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    for module in model.modules():
        parameters = module.__dict__.get("_parameters")
        # those of a TorchScript module are not held in a dictionary that could lend others
        if type(parameters) is dict:
            yield from ((parameters, name) for name, own in parameters.items() if own is not None and own.ndim == 4)


def precision_of(model: nn.Module) -> torch.dtype | None:
    """Return the floating-point type of the first parameter or buffer that has one; None where none has."""
    tensors = (*model.parameters(), *model.buffers())
    return next((one.dtype for one in tensors if one.is_floating_point() and one.dtype.itemsize > 1), None)


def outside(model: nn.Module) -> bool:
    """Whether a part of the model answers outside of torch, and has whoever asks it pay (its `outside` is True)."""
    return any(getattr(part, "outside", False) is True for part in model.modules())


def unstated(model: nn.Module) -> bool:
    """Whether a model holds no tensor: no weights that a layout could speed up, and no state that it could keep."""
    return not any(
        isinstance(value, Tensor)
        for part in model.modules()
        for value in (*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values())
    )


def settled(
    model: nn.Module, images: Tensor, weights: Weights, call: Callable[[Tensor], Tensor], *, stateful: bool = False
) -> Form:
    """Return the form in which `model` is asked about `images`; `call` asks it about some, and checks the answer.

    Found once per model and kind of images by asking about one or two of them, which leaves no trace in the model.
    Raises `ModelError` for a model whose answer depends on what it was asked before, unless it is `stateful`: then
    `call` lets it begin again.
    """
    own = precision_of(model) or images.dtype
    modules = tuple(map(id, model.modules()))
    signature = (images.shape[1:], images.dtype, images.device, own, modules, stateful)
    known = _SETTLED.setdefault(model, {})
    if signature not in known:
        convolves = images.ndim == 4 and any(one.ndim == 4 for one in model.parameters())
        kept = Kept.of(model)
        asked = _steady(call, images)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=_devices(images)):
                plain, answer = _plainest(model, images[:2], own, asked, None if stateful else kept)
                kept.restore(everything=True)
                fast = convolves and plain.layout is not torch.channels_last
                known[signature] = _faster(images[:2], plain, answer, weights, asked) if fast else plain
        finally:
            kept.restore(everything=True)
    return known[signature]


def plainly(model: nn.Module, images: Tensor, form: Form) -> Form:
    """Return the same form without another layout, and remember it: the model failed in that one."""
    plain = dataclasses.replace(form, layout=torch.contiguous_format, private=False)
    for signature, one in _SETTLED.get(model, {}).items():
        if one == form:
            _SETTLED[model][signature] = plain
    return plain


def _plainest(
    model: nn.Module, images: Tensor, own: torch.dtype, call: Callable[[Tensor], Tensor], kept: Kept | None
) -> tuple[Form, Tensor]:
    # on copies of the weights: a forward may write to them
    with on_copies(model) as written:
        form, answer = _plain(images, own, call)
        if kept is None:
            return form, answer
        names, parameters = kept.changed(), written()
        if parameters or (names and not _alike(answer, call(form.of(images)))):
            refuse_state(names, parameters)
    return form, answer


def _faster(images: Tensor, plain: Form, answer: Tensor, weights: Weights, call: Callable[[Tensor], Tensor]) -> Form:
    fast = dataclasses.replace(plain, layout=torch.channels_last, private=True)
    try:
        with weights.lent():
            other = call(fast.of(images))
    except Exception:
        # whatever it raises: in its own layout it answers
        return plain
    return fast if _alike(answer, other) else plain


def _plain(images: Tensor, own: torch.dtype, call: Callable[[Tensor], Tensor]) -> tuple[Form, Tensor]:
    first: Exception | None = None
    # images in double precision are meant: a model that can, answers in it
    first_try = images.dtype if images.dtype is torch.float64 else own
    for dtype in dict.fromkeys((first_try, own, images.dtype)):
        for layout in (torch.contiguous_format, torch.channels_last):
            form = Form(dtype, layout)
            try:
                return form, call(form.of(images))
            except AssayError:
                raise
            except Exception as error:
                first = first or error
    assert first is not None
    raise first


def _steady(call: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[Tensor], Tensor]:
    # every question under the same random numbers: a random model is compared with itself
    state = torch.get_rng_state()
    there = torch.cuda.get_rng_state(images.device) if images.device.type == "cuda" else None

    def asked(rows: Tensor) -> Tensor:
        torch.set_rng_state(state)
        if there is not None:
            torch.cuda.set_rng_state(there, images.device)
        return call(rows)

    return asked


def _devices(images: Tensor) -> list[int]:
    return [images.device.index or 0] if images.device.type == "cuda" else []


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
        return False
    one, other = one.double().nan_to_num(0, 0, 0), other.double().nan_to_num(0, 0, 0)
    scale = float(one.abs().max()) if one.numel() else 0.0
    return float((one - other).abs().max()) <= _ALIKE * scale if one.numel() else True
