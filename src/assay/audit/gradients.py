"""What gradient attacks can see of a classifier: gradients that vanish, and the gaps of logits that make them vanish.

With a gap of g between the two highest logits, the softmax in float32 rounds the label's own term away from
g = ln 2^24 = 16.6 on, the other terms are subnormal from 87.3 on, and from 104.0 on (half the smallest
float32 rounds to zero) the whole gradient of the cross-entropy is exactly zero. An attack that climbs it then stands
still, and the model looks robust (Carlini and Wagner 2017, section VIII; Athalye et al. 2018).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.histogram import Histogram, histogram
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted, scored
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, Observation, TorchOracle, frozen
from assay.core.tensors import flat
from assay.data.dataset import Data, Sample
from assay.models import Classifier

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROUNDED, SUBNORMAL, ZERO = 24 * math.log(2), 126 * math.log(2), 150 * math.log(2)


@dataclasses.dataclass(frozen=True)
class GradientProbe:
    """What `n` images showed; all shares are fractions of them.

    `zero` is the share whose gradient of the cross-entropy is exactly zero in float32; `zero_in_double` the same in
    float64, None where the model cannot compute in it. Gradients that are zero in float32 alone are hidden by
    rounding. `not_finite` is the share with NaN or infinity in the logits or the gradient, which count as no zeros.
    `gaps` holds quantiles of the finite gaps between the two highest logits (NaN where there are none), `histogram`
    their counts; `saturated` the shares of gaps above each of `ROUNDED`, `SUBNORMAL` and `ZERO`.
    """

    n: int
    accuracy: float
    zero: float
    zero_in_double: float | None
    not_finite: float
    gaps: dict[float, float]
    saturated: dict[float, float]
    histogram: Histogram

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold; `from_dict` gives the probe back."""
        plain = dataclasses.asdict(self)
        for name in ("gaps", "saturated"):
            plain[name] = {repr(key): None if math.isnan(v) else v for key, v in plain[name].items()}
        plain["histogram"] = {name: list(values) for name, values in plain["histogram"].items()}
        return plain

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> GradientProbe:
        """Return the probe that `to_dict` wrote; raises `BadInput` for anything else."""
        try:
            numbers = {
                name: {float(key): math.nan if v is None else float(v) for key, v in plain[name].items()}
                for name in ("gaps", "saturated")
            }
            bins = Histogram(tuple(plain["histogram"]["edges"]), tuple(plain["histogram"]["counts"]))
            return GradientProbe(**{**plain, **numbers, "histogram": bins})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fields = ", ".join(field.name for field in dataclasses.fields(GradientProbe))
            raise BadInput(f"This is no stored probe of gradients ({error!r}); expected {fields}.") from error


def probe_gradients(model: Classifier, data: Data, chunk: int = 250, bin_width: float | None = None) -> GradientProbe:
    """Look once at every image of `data`, in float32 and in float64; unreadable ones are left out.

    `bin_width` is that of the histogram of gaps, in logits; by default a round number chosen from the gaps. Costs 2
    forward and 2 backward passes per image, one of each in float64. Raises `BadInput` for no images, and for a
    `bin_width` that makes no histogram.
    """
    single = dataclasses.replace(model.oracle(), cleaned=False)
    double = in_double(model.module)
    gaps, right, zero, not_finite, zero_in_double = [], [], [], [], []
    for start in range(0, len(data), chunk):
        samples = [one for one in data.load(range(start, min(start + chunk, len(data)))) if isinstance(one, Sample)]
        if not samples:
            continue
        x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
        seen = _look(single, x, y)
        # of a model that may refuse, the last logit is no class
        top = seen.logits[:, : seen.logits.shape[1] - model.rejects].topk(2, 1).values
        gaps.append(top[:, 0] - top[:, 1])
        right.append(~seen.reached & scored(seen.logits))
        zero.append(_is_zero(seen))
        not_finite.append(~_is_finite(seen))
        if double is not None:
            try:
                zero_in_double.append(_is_zero(_look(dataclasses.replace(single, model=double), x.double(), y)))
            except RuntimeError:  # a layer or a constant of one type
                double, zero_in_double = None, []
    if not gaps:
        raise BadInput(f"{data.source} has no readable images; a probe needs some.")
    gap = torch.cat(gaps).double().cpu()
    finite = gap[gap.isfinite()]
    return GradientProbe(
        n=len(gap),
        accuracy=_share(torch.cat(right)),
        zero=_share(torch.cat(zero)),
        zero_in_double=_share(torch.cat(zero_in_double)) if zero_in_double else None,
        not_finite=_share(torch.cat(not_finite)),
        gaps={q: float(finite.quantile(q)) if len(finite) else math.nan for q in QUANTILES},
        saturated={bound: _share(gap > bound) for bound in (ROUNDED, SUBNORMAL, ZERO)},
        histogram=histogram(finite, bin_width),
    )


def _look(asked: TorchOracle, x: Tensor, y: Tensor) -> Observation:
    device = next((parameter.device for parameter in asked.model.parameters()), x.device)
    x, y = x.to(device), y.to(device)
    draws = Draws(torch.arange(len(x), device=device))
    with frozen(asked.model, copied=asked.reset is not None):
        return asked.look(x, Untargeted(y), cross_entropy, Access.GRADIENT, draws)


def _is_zero(seen: Observation) -> Tensor:
    assert seen.grad is not None, "the look asked for it"
    return flat(seen.grad == 0).all(1) & _is_finite(seen)


def _is_finite(seen: Observation) -> Tensor:
    assert seen.grad is not None, "the look asked for it"
    return flat(seen.grad).isfinite().all(1) & seen.logits.isfinite().all(1)


def in_double(module: nn.Module) -> nn.Module | None:
    """Return the module in float64, or None where it cannot be copied."""
    try:
        return copy.deepcopy(module).double()
    except (RuntimeError, TypeError, NotImplementedError):
        return None


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
