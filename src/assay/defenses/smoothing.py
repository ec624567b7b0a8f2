"""Randomised smoothing: the answer that most noisy copies of an image get (Cohen et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.options import Option
from assay.core.draws import Draws, current, drawing
from assay.core.errors import BadInput
from assay.core.goal import answer_of
from assay.core.oracle import LookPasses, micro_batch, out_of_memory
from assay.core.signals import Signals, signals_of, with_refusal
from assay.core.tensors import rows, valued
from assay.defenses.lattice import LEVELS, from_levels, lattice_noise, to_levels

# values of a pass: copies of tiny images cost little more together than alone
_VALUES = 65_536
# of an answer that the test decides against what the mean probabilities say
_BARELY = 1e-6


class Smoothed(nn.Module):
    """The class that most of `votes` noisy copies get; refused where the votes do not tell (Cohen et al. 2019).

    Noise is Gaussian of deviation `sigma`, in whole grey levels of 8-bit images, drawn exactly (`defenses.lattice`); an
    image between grey levels is rounded to the nearest first. Refused is an image whose two leading classes a two-sided
    binomial test does not tell apart at level `alpha`. With `clip` the network sees 0 to 255 alone, as in training with
    `assay train smoothed`; networks of other authors may have seen noise beyond: `clip=false`.

    Logits are logarithms of the mean probability over the copies, the class that most copies get on top. A copy that
    the network refuses, or does not score, is a vote for no class. Backwards the logarithm of the mean probability
    (Salman et al. 2019) of `draws` copies, which stand in for the votes in a look with a gradient; through the rounding
    as if there were none.
    """

    refuses: ClassVar[bool] = True

    def __init__(
        self,
        inner: nn.Module,
        *,
        sigma: Annotated[float, Option("Deviation of the noise.", "of the range [0, 1]", above=True, most=8)] = 0.25,
        votes: Annotated[int, Option("Noisy copies that an answer counts.", "passes")] = 1000,
        draws: Annotated[int, Option("Noisy copies behind a gradient.", "passes")] = 16,
        alpha: Annotated[
            float, Option("Level of the test that refuses.", "share", above=True, most=1, below=True)
        ] = 0.001,
        clip: Annotated[bool, Option("Whether noisy copies are cut to [0, 1].")] = True,
    ) -> None:
        super().__init__()
        self.inner, self.sigma, self.votes, self.draws, self.alpha, self.clip = inner, sigma, votes, draws, alpha, clip
        self.least = least_accepted(votes, alpha)
        if self.least > votes:
            enough = next(n for n in range(votes, 10_000) if least_accepted(n, alpha) <= n)
            raise BadInput(
                f"votes is {votes}: at alpha {alpha:g} even {votes} equal votes are no answer, and every image would "
                f"be refused. Take {enough} or more."
            )
        # copies of a pass, once memory has run out
        self.most: int | None = None

    def extra_repr(self) -> str:
        """Return what a digest must tell apart."""
        return f"sigma={self.sigma!r}, votes={self.votes}, draws={self.draws}, alpha={self.alpha!r}, clip={self.clip}"

    def signals(self, x: Tensor) -> Signals:
        """Return the logits of the classes, and how far the image is from an answer that the test accepts."""
        draws = current(x).fold("smoothed")
        if x.requires_grad and torch.is_grad_enabled():
            logits = self._mean(self._copies(x, draws, self.draws), self.draws)
            return Signals(logits, self._excess(logits, logits.detach().argmax(1)))
        with torch.no_grad():
            tally = _Tally()
            logits = self._mean(tally.counted(self._copies(x, draws, self.votes)), self.votes)
            top, refused = answer_by_vote(tally.counts, self.alpha)
            highest = torch.nextafter(logits.amax(1), torch.full_like(logits[:, 0], torch.inf))
            ahead = torch.where(logits.argmax(1) == top, logits.amax(1), highest)
            logits = logits.scatter(1, top[:, None], ahead[:, None])
            excess = self._excess(logits, top)
            return Signals(logits, torch.where(refused, excess.clamp_min(_BARELY), excess.clamp_max(0)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K + 1]` of images `x`, the last class "refused"."""
        return with_refusal(self.signals(x))

    @torch.no_grad()
    def count(self, x: Tensor, votes: int) -> Tensor:
        """Return how many of `votes` noisy copies of each image get each class, int64 `[N, K]`.

        The copies are drawn from the current draws, and differ from those of an answer.
        """
        tally = _Tally()
        for _ in tally.counted(self._copies(x, current(x).fold("votes"), votes)):
            pass
        return tally.counts

    def _copies(self, x: Tensor, draws: Draws, count: int) -> Iterator[Tensor]:
        """Yield the logits of noisy copies in parts `[N, n, K]`; of one that gives no class they are NaN."""
        levels, at = to_levels(x), 0
        backward = x.requires_grad and torch.is_grad_enabled()
        while at < count:
            most = self.most or max(micro_batch(x, backward=False), _VALUES // x[0].numel())
            n = min(count - at, max(1, most // max(1, len(x))))
            try:
                logits = self._asked(x, levels, draws.copies(at, n), n, backward)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self.most = max(1, n * len(x) // 2)
                if n == 1:
                    raise
                continue
            at += n
            yield logits.view(len(x), n, -1)

    def _asked(self, x: Tensor, levels: Tensor, draws: Draws, n: int, backward: bool) -> Tensor:
        noise = lattice_noise(draws, self.sigma, *x.shape[1:])
        moved = levels.repeat_interleave(n, 0).add_(noise.levels)
        shown = moved.clamp(0, LEVELS) if self.clip else moved
        images = from_levels(shown, x)
        if backward:
            # a value that was cut does not move with the image
            images = valued(x.repeat_interleave(n, 0) * (shown == moved).to(x.dtype), images)
        with drawing(draws.fold("inner")):
            seen = signals_of(self.inner, images)
        logits = seen.logits if seen.logits.dtype.itemsize > 2 else seen.logits.float()
        lost = ~noise.known | (answer_of(logits.detach()) < 0)
        if seen.excess is not None:
            lost = lost | (seen.excess > 0)
        return logits.masked_fill(rows(lost, logits), torch.nan)

    def _mean(self, parts: Iterator[Tensor], count: int) -> Tensor:
        total: Tensor | None = None
        for logits in parts:
            shares = logits.log_softmax(2)
            part = torch.where(shares.isnan(), -torch.inf, shares).logsumexp(1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None, "there is at least one copy"
        return total - math.log(count)

    def _excess(self, logits: Tensor, top: Tensor) -> Tensor:
        # how many logits the lead falls short of the least one that the test accepts
        others = logits.scatter(1, top[:, None], -torch.inf).amax(1)
        needed = math.log(self.least / max(self.votes - self.least, 0.5))
        return needed - (logits.gather(1, top[:, None])[:, 0] - others)


class _Tally:
    # counts the votes of copies on their way to who averages them
    counts: Tensor

    def counted(self, parts: Iterator[Tensor]) -> Iterator[Tensor]:
        for number, logits in enumerate(parts):
            if number == 0:
                self.counts = torch.zeros(len(logits), logits.shape[2], dtype=torch.int64, device=logits.device)
            answers = answer_of(logits.detach().flatten(0, 1)).view(logits.shape[:2])
            self.counts.scatter_add_(1, answers.clamp_min(0), (answers >= 0).long())
            yield logits


def noisy(x: Tensor, draws: Draws, sigma: float, *, clip: bool = True) -> Tensor:
    """Return a noisy copy of each image of `x` `[N, C, H, W]`, as `Smoothed` shows them to the network."""
    moved = to_levels(x).add_(lattice_noise(draws, sigma, *x.shape[1:]).levels)
    return from_levels(moved.clamp(0, LEVELS) if clip else moved, x)


class VotedAnswer(NamedTuple):
    """The class that leads the votes `[N]`, of equal ones the lower index, and whether the answer is refused `[N]`."""

    top: Tensor
    refused: Tensor


def answer_by_vote(counts: Tensor, alpha: float) -> VotedAnswer:
    """Return the answer to votes `[N, K]`: refused where a two-sided binomial test of the two leading classes fails.

    The test asks whether `n1` of `n1 + n2` could be a fair coin, at level `alpha` (Hung and Fithian 2019).
    """
    from scipy.special import betainc

    first, second = counts.topk(2, 1).values.cpu().numpy().T
    # the chance of n1 or more heads; without any vote there is no answer
    p = 2 * betainc(first.clip(1), second + 1, 0.5)
    refused = torch.from_numpy((p > alpha) | (first == 0)).to(counts.device)
    return VotedAnswer(counts.argmax(1), refused)


def least_accepted(votes: int, alpha: float) -> int:
    """Return the fewest of `votes` votes for two classes that an answer is accepted with; more than all for none."""
    import numpy as np
    from scipy.special import betainc

    k = np.arange(votes // 2 + 1, votes + 1)
    return votes // 2 + 1 + int((2 * betainc(k, votes - k + 1, 0.5) > alpha).sum())


def smoothed_passes(options: Mapping[str, Any]) -> LookPasses:
    """Return the passes of a look: all votes, or the draws behind a gradient."""
    return LookPasses(options["votes"], options["draws"], 0, options["draws"])
