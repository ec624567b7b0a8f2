"""What a defended network says of images beside its logits: whether it refuses them, and what its detector compares.

A model may have a method `signals(x) -> Signals`; any other is asked for logits alone. Attacks that know a defence
climb these. A refusal becomes one more class, the last (see `with_refusal`), so that every goal and attack knows it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.answers import checked_logits, gives_one_score
from assay.core.errors import ModelError
from assay.core.tensors import valued


class Signals(NamedTuple):
    """What a network said of images; every tensor is batch-first.

    `logits` `[N, K]` are the classes' alone. `excess` `[N]` is how far the detector's score lies above its threshold,
    in units of logits: an image is refused where it is above 0; None for a network that refuses nothing. `views`
    `[N, V, K]` are the logits of the copies that a detector compares, the first of the image itself. `features`
    `[N, F]` are the activations that it looks at.
    """

    logits: Tensor
    excess: Tensor | None = None
    views: Tensor | None = None
    features: Tensor | None = None


def signals_of(network: nn.Module, x: Tensor) -> Signals:
    """Return what a network says of images `x` `[N, *S]`: its own signals, or its logits alone.

    One score per image is the logits of two classes, `[0, score]`: a detector compares classes.
    """
    own: Any = getattr(network, "signals", None)
    if callable(own):
        return own(x)  # type: ignore[no-any-return]  # what a module returns is untyped
    output: Any = network(x)
    return Signals(checked_logits(output, len(x)) if gives_one_score(output, len(x)) else output)


def with_refusal(seen: Signals) -> Tensor:
    """Return logits `[N, K + 1]` whose last class means "refused"; `[N, K]` for a network that refuses nothing.

    The last logit is the highest of the others plus the excess: it is the highest exactly where the excess is above 0,
    and a tie is no refusal. The margin of a wrong class over the label and the refusal is then what an attack has to
    raise: Tramer 2022 and Bryniarski et al. 2022 attack the two one after the other. A NaN excess makes the row
    unscored, as a NaN logit does.
    """
    if seen.excess is None:
        return seen.logits
    top = seen.logits.amax(1)
    # a score may be infinite, or overflow in half precision: that is a refusal, and no missing answer
    refusal = (top + seen.excess.to(top)).clamp_max(torch.finfo(top.dtype).max)
    # a small excess may round away: the answer must not
    lost = (seen.excess > 0) & (refusal <= top)
    gained = (seen.excess <= 0) & (refusal > top)
    wanted = torch.where(lost, torch.nextafter(top, torch.full_like(top, torch.inf)), torch.where(gained, top, refusal))
    refusal = valued(refusal, wanted.detach()) if bool((lost | gained).any()) else refusal
    return torch.cat([seen.logits, refusal[:, None]], 1)


def excess_of(logits: Tensor) -> Tensor:
    """Return the excess `[N]` that logits `[N, K + 1]` with a refusal tell."""
    return logits[:, -1] - logits[:, :-1].amax(1)


def guides_of(network: nn.Module, signal: str) -> Tensor | None:
    """Return what images of each class that a detector accepts have of a signal, `[K, R]`; None where none is stored.

    A detector that stores them has a buffer `guide_features` or `guide_logits`, one row for each class.
    """
    name = f"guide_{signal}"
    stored = (getattr(module, name, None) for module in network.modules())
    return next((one for one in stored if isinstance(one, Tensor) and len(one)), None)


def apart(logits: Tensor, rejects: bool) -> Signals:
    """Return what answers of a model say, the classes' logits `[N, K]` apart from the excess of a refusal.

    `logits` are `[N, K + 1]` of a model that `rejects`, else `[N, K]`. An image is refused where the excess is above 0.
    """
    return Signals(logits[:, :-1], excess_of(logits)) if rejects else Signals(logits)


class Asked(nn.Module):
    """A network that says its views, features or excess beside its answer, for an objective that climbs them.

    `[N, *S]` -> `[N, M + R]`: the M logits as the network gives them, then the R numbers of `signal`, flat. `answers`
    is M, and `shape` that of the signal of one image, once it has been asked.
    """

    def __init__(self, network: nn.Module, signal: str) -> None:
        super().__init__()
        self.network, self.signal = network, signal
        self.answers, self.shape = 0, torch.Size()

    def forward(self, x: Tensor) -> Tensor:
        """Return answer and signal side by side. Raises `ModelError` for a network without this signal."""
        seen = signals_of(self.network, x)
        value: Tensor | None = getattr(seen, self.signal)
        if value is None:
            raise ModelError(
                f"The model has no {self.signal} to attack: it is behind no detector that compares any. Use an attack "
                "that needs none."
            )
        answer = with_refusal(seen)
        self.answers, self.shape = answer.shape[1], value.shape[1:]
        return torch.cat([answer, value.reshape(len(x), -1).to(answer)], 1)

    def answer(self, output: Tensor) -> Tensor:
        """Return the network's answer `[N, M]` alone."""
        return output[:, : self.answers]

    def told(self, output: Tensor) -> Tensor:
        """Return the signal `[N, ...]` alone."""
        return output[:, self.answers :].reshape(len(output), *self.shape)
