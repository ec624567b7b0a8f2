"""PatchCleanser's double masking (Xiang et al. 2022): an answer that no patch of a given size can change.

Squares of one fill are put over the image. Wherever a patch of the given size lies, one of them hides it whole, so that
the answer to that masked image, and to all that hide a second square, is the answer without the patch.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.answers import checked_logits
from assay.core.errors import BadInput
from assay.core.oracle import micro_batch, took_more

# a one-mask answer that is lost by so many logits has no slope any more: an attack goes on to the others
_LOST = 3.0
# the decision leads the other logits by this share of their size where the mean answer would not say it
_LEAD = 1e-3
# second masks that are asked about before looking whether they agree
_BLOCK = 6


class MaskRow(NamedTuple):
    """The masks along one side of an image: how long they are, and where they start."""

    side: int
    starts: tuple[int, ...]


@functools.cache
def mask_row(length: int, patch: int, masks: int) -> MaskRow:
    """Return at most about `masks` masks along `length` pixels, one of which holds any `patch` neighbouring ones.

    s = ceil((n - p + 1) / k), m = min(p + s - 1, n), starts 0, s, 2 s, ... and n - m (Xiang et al. 2022).
    Raises `BadInput` for a patch longer than the side.
    """
    if patch > length:
        raise BadInput(
            f"double-masking: the patch is {patch} pixels, and the images have {length} along a side. Expected a patch "
            "that fits into them."
        )
    stride = -(-(length - patch + 1) // masks)
    side = min(patch + stride - 1, length)
    return MaskRow(side, tuple(dict.fromkeys((*range(0, length - side + 1, stride), length - side))))


def first_masks(shape: tuple[int, ...] | None, patch: int, masks: int) -> int:
    """Return how many one-mask images there are, at images of `shape` (C, H, W); the square of `masks` if unknown."""
    if shape is None or len(shape) != 3:
        return masks**2
    return len(mask_row(shape[1], patch, masks).starts) * len(mask_row(shape[2], patch, masks).starts)


class Decision(NamedTuple):
    """Labels (int64 `[N]`), and what is known of the answers: `pairs` (int64 `[N, M, M]`, -1 unknown), and `spent`.

    `pairs[n, i, j]` is the label of image n under masks i and j; `spent` (int64 `[N]`) are forwards of second masks.
    """

    label: Tensor
    pairs: Tensor
    spent: Tensor


class DoubleMasking(nn.Module):
    """What images masked by one and by two squares are said to show, by PatchCleanser's rule (Xiang et al. 2022).

    All one-mask answers agree: that is it. Else the first disagreeing mask under which all second masks agree with it
    decides; if there is none, the majority (the lowest label of a tie). Masks are squares for patches of up to
    `patch` x `patch` pixels of the image as the model gets it, about `masks` along each side, of the grey level `fill`.
    The logits are the mean of the one-mask answers, where the decision is put a hair above the others if it is not
    highest. Backwards: that mean, without the answers that what is climbed has won by 3 logits.
    """

    def __init__(
        self,
        inner: nn.Module,
        *,
        patch: Annotated[int, Option("Side of the largest patch that the masks hide.", "pixels")] = 5,
        masks: Annotated[int, Option("Masks along each side; more are smaller, and cost more.", "masks")] = 6,
        fill: Annotated[float, Option("What masks are filled with.", "share of the range", most=1)] = 0.0,
    ) -> None:
        super().__init__()
        self.inner, self.patch, self.masks, self.fill = inner, patch, masks, fill

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"patch={self.patch}, masks={self.masks}, fill={float(self.fill)}"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` whose highest is the decision. Raises `BadInput` for images smaller than the patch."""
        answers = self.one_mask_answers(x)
        with torch.no_grad():
            decision = self.decide(x, answers.argmax(2))
            value = _decided(_mean(answers), decision.label)
        took_more(decision.spent)
        return _CappedMean.apply(answers, value)  # type: ignore[no-any-return]  # autograd functions are untyped

    def hidden(self, x: Tensor) -> Tensor:
        """Return what each of M masks hides of images `x` `[N, C, H, W]`: bool `[M, H, W]`."""
        return _hidden(tuple(x.shape[2:]), self.patch, self.masks).to(x.device)

    def one_mask_answers(self, x: Tensor) -> Tensor:
        """Return the logits `[N, M, K]` of the images `x` `[N, C, H, W]` under each of M masks."""
        hidden, fill = self.hidden(x), x.new_tensor(self.fill)
        at_once = max(1, micro_batch(x, x.requires_grad) // max(1, len(x)))
        answers = []
        for some in torch.split(hidden, at_once):
            images = torch.where(some[:, None], fill, x[:, None])
            answers.append(self._asked(images.flatten(0, 1)).view(len(x), len(some), -1))
        return torch.cat(answers, 1)

    def pair_answers(self, x: Tensor, row: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the logits `[P, K]` of the images `x[row]` under two masks each, by their numbers (int64 `[P]`)."""
        hidden, fill = self.hidden(x), x.new_tensor(self.fill)
        answers = []
        for part in torch.split(torch.arange(len(row), device=x.device), micro_batch(x, backward=False)):
            both = hidden[first[part]] | hidden[second[part]]
            answers.append(self._asked(torch.where(both[:, None], fill, x[row[part]])))
        return torch.cat(answers)

    def decide(self, x: Tensor, labels: Tensor) -> Decision:
        """Return the decision about images `x`, of whose one-mask answers the labels are int64 `[N, M]`."""
        count = labels.shape[1]
        alike = (labels[:, :, None] == labels[:, None]).sum(2)
        often = alike == alike.amax(1, keepdim=True)
        decided = torch.where(often, labels, torch.iinfo(labels.dtype).max).amin(1)
        pairs = torch.full((len(x), count, count), -1, dtype=torch.int64, device=x.device)
        pairs.diagonal(dim1=1, dim2=2).copy_(labels)
        spent = torch.zeros_like(decided)
        # the disagreeing masks that no second mask has outvoted
        standing = labels != decided[:, None]
        while bool(standing.any()):
            at = standing.any(1).nonzero().squeeze(1)
            mask = standing[at].int().argmax(1)
            known, wanted = pairs[at, mask], labels[at, mask]
            outvoted = ((known >= 0) & (known != wanted[:, None])).any(1)
            standing[at[outvoted], mask[outvoted]] = False
            agreed = (known == wanted[:, None]).all(1)
            decided[at[agreed]] = wanted[agreed]
            standing[at[agreed]] = False
            unknown = (known < 0) & ~outvoted[:, None]
            which, second = (unknown & (unknown.cumsum(1) <= _BLOCK)).nonzero().unbind(1)
            if not len(which):
                continue
            row, first = at[which], mask[which]
            label = self.pair_answers(x, row, first, second).argmax(1)
            pairs[row, first, second] = label
            pairs[row, second, first] = label
            spent.index_add_(0, row, torch.ones_like(row))
        return Decision(decided, pairs, spent)

    def _asked(self, images: Tensor) -> Tensor:
        return checked_logits(self.inner(images), len(images))


@functools.lru_cache(maxsize=16)
def _hidden(size: tuple[int, int], patch: int, masks: int) -> Tensor:
    down, across = (_covered(length, mask_row(length, patch, masks)) for length in size)
    return (down[:, None, :, None] & across[None, :, None, :]).flatten(0, 1)


def _covered(length: int, row: MaskRow) -> Tensor:
    at, start = torch.arange(length), torch.tensor(row.starts)[:, None]
    return (at >= start) & (at < start + row.side)


def _mean(answers: Tensor) -> Tensor:
    # of the answers [N, M, K] that are numbers: one that overflows over a patch does not decide; NaN where none is
    known = answers.isfinite().all(2, keepdim=True)
    return torch.where(known, answers, 0).sum(1) / known.sum(1)


def _decided(mean: Tensor, label: Tensor) -> Tensor:
    # the mean says how near the decision is to another one; where it says another, the decision is put above
    at = label[:, None]
    others = mean.scatter(1, at, -torch.inf).amax(1, keepdim=True)
    least = others + _LEAD * (1 + others.abs())
    return mean.scatter(1, at, torch.maximum(mean.gather(1, at), least))


class _CappedMean(torch.autograd.Function):
    # forwards a value [N, K]; backwards the mean of answers [N, M, K] that the direction asked for has not won yet

    @staticmethod
    def forward(ctx: Any, answers: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(answers)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (answers,), grad = ctx.saved_tensors, grads[0]
        # for a margin, z_wrong - z_label: what it is under each mask, in units of the gradient's size
        won = (grad[:, None] * answers).sum(2) >= _LOST * grad.abs().sum(1, keepdim=True) / 2
        going = (~won).to(grad.dtype)
        return grad[:, None] * going[..., None] / answers.shape[1], None
