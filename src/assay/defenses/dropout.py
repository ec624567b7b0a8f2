"""Dropout that stays on in evaluation, without an answer depending on its batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.core.draws import Draws, current, nested, row_keys
from assay.core.errors import BadInput, ModelError
from assay.core.signals import Signals, signals_of
from assay.core.tensors import flat

# whether a mask drops whole channels; layers call these functions too
_BY_CHANNEL: dict[Callable[..., Any], bool] = {
    F.dropout: False,
    F.dropout1d: True,
    F.dropout2d: True,
    F.dropout3d: True,
}
_UNKNOWN: tuple[Callable[..., Any], ...] = (
    torch.dropout,
    torch.feature_dropout,
    F.alpha_dropout,
    F.feature_alpha_dropout,
)
# the place of `dropout_p` among their arguments
_ATTENTION: dict[Callable[..., Any], int] = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}


class DropoutOn(nn.Module):
    """`module` with its dropout on in eval mode too, as when a network is tested without entering it.

    That is every call of `torch.nn.functional.dropout` (1d, 2d and 3d as well), by a layer or by the module itself.
    The masks are drawn from the pixels of the image: an answer is the same in every batch and in every run. Passes
    with gradients and passes without draw different masks, as an attack and the check of its result would. The
    masks are blind to `.train()` and `.eval()`.

    Raises `BadInput` for dropout that it cannot turn on: inside attention and recurrent layers, in TorchScript, and,
    in the first pass, alpha dropout and a dropout whose tensor has another first dimension than the images. What a
    module does not call at all in eval mode (`if self.training: ...`) cannot be seen.
    """

    def __init__(self, module: nn.Module, seed: int = 0) -> None:
        super().__init__()
        refuse_hidden(module)
        self.module = module
        self.seed = seed

    def extra_repr(self) -> str:
        """Return what the answers depend on beside the module; it is part of a model's digest."""
        return f"seed={self.seed}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output for images `x`, with masks that follow from each image."""
        which = "with gradients" if torch.is_grad_enabled() else "without"
        with Dropping(Draws(_fingerprint(x)).fold(self.seed).fold(which)):
            return self.module(x)  # type: ignore[no-any-return]


class Dropping(TorchFunctionMode):
    """While it is entered, dropout drops: each call, in their order, under a name of its own.

    The masks are drawn from `draws`, row by row. `refuse_hidden` says beforehand which networks cannot be entered.
    """

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self.draws, self.calls = draws, 0

    def check_met(self) -> None:
        """Raise `ModelError` where nothing was called that drops: a defence that changes nothing looks like one."""
        if not self.calls:
            raise ModelError(
                "The network calls no dropout, so there is none to leave on: this defence would change nothing. Leave "
                "it out, or take a network with torch.nn.Dropout layers."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _BY_CHANNEL:
            given = inspect.signature(func).bind(*args, **kwargs)
            given.apply_defaults()
            return self._dropped(given.arguments, _BY_CHANNEL[func])
        at = _ATTENTION.get(func)
        if func in _UNKNOWN or (at is not None and (args[at] if len(args) > at else kwargs.get("dropout_p", 0)) > 0):
            raise _cannot(f"a call of {func.__name__}")
        return func(*args, **kwargs)

    def _dropped(self, given: dict[str, Any], by_channel: bool) -> Tensor:
        h: Tensor = given["input"]
        p: float = given["p"]
        name, self.calls = f"dropout {self.calls}", self.calls + 1
        if p >= 1:
            return h.zero_() if given["inplace"] else torch.zeros_like(h)
        if h.ndim < 2 or len(h) != len(self.draws.ids):
            raise _cannot(f"a dropout of {list(h.shape)} for {len(self.draws.ids)} images, one row per image expected,")
        kept = self.draws.uniform(name, *(h.shape[1:2] if by_channel else h.shape[1:])) >= p
        scale = kept.view(*kept.shape, *[1] * (h.ndim - kept.ndim)).to(h.dtype)
        return h.mul_(scale).div_(1 - p) if given["inplace"] else h * scale / (1 - p)


class RandomDropout(nn.Module):
    """What is inside, with its dropout left on: other masks in every look (Feinman et al. 2017 ask with it on).

    Which calls of dropout are meant, and what is refused, says `DropoutOn`. There the masks follow from the image, here
    they are drawn afresh: an attack has to average over looks. Backwards exact.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        refuse_hidden(inner)
        self.inner = inner

    def signals(self, x: Tensor) -> Signals:
        """Return what is said under fresh masks."""
        draws = current(x)
        with Dropping(draws.fold("dropout")) as dropping, nested("dropout"):
            seen = signals_of(self.inner, x)
        dropping.check_met()
        return seen

    def forward(self, x: Tensor) -> Tensor:
        """Return what is inside says of images `x` under fresh masks, as it says it."""
        draws = current(x)
        with Dropping(draws.fold("dropout")) as dropping, nested("dropout"):
            answer: Tensor = self.inner(x)
        dropping.check_met()
        return answer


def refuse_hidden(module: nn.Module) -> None:
    """Raise `BadInput` for layers whose dropout never reaches a function that can be replaced."""
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.MultiheadAttention, nn.RNNBase)) and layer.dropout > 0:
            raise _cannot(f"the dropout inside {name or 'the module'} ({type(layer).__name__})")
        if isinstance(layer, torch.jit.ScriptModule):
            raise _cannot(f"{name or 'the module'}, which is TorchScript,")


def _cannot(what: str) -> BadInput:
    return BadInput(
        f"Dropout cannot be left on here: {what} has no masks that follow from the image alone. Measure the network in "
        "eval mode, or use torch.nn.Dropout, Dropout1d, Dropout2d or Dropout3d, or their functions, on [N, ...]."
    )


def _fingerprint(x: Tensor) -> Tensor:
    """Return a 64-bit number per image that follows from all its pixels (int64 `[N]`)."""
    # plus zero, because -0 is the same pixel as 0 and has other bits
    return row_keys((flat(x.detach().float()) + 0.0).contiguous().view(torch.int32).to(torch.int64))
