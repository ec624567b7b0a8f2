"""What a broken defence is, and the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn

from assay.audit.broken.input_transformations import (
    DetachedFilter,
    Jpeg,
    MedianFilter,
    RandomResizePad,
    Rounding,
    TestTimeOptimisation,
    Thermometer,
)
from assay.audit.broken.network_changes import LogitScaling, NoisyLogits, SaturatedOutput, distilled, k_winners

VANISHING, SHATTERED, STOCHASTIC = "vanishing", "shattered", "stochastic"
CUT = "a step without a gradient in front of the network"


@dataclasses.dataclass(frozen=True)
class BrokenDefense:
    """A defence that makes a network look robust and hardly changes how robust it is.

    `make` puts it around a module that takes `[N, C, H, W]` in [0, 1] and returns logits. `masks` are the ways in
    which it hides the gradient, in the words of Athalye et al. 2018 where they have one. `cause` is what an audit
    should find. `needs` is what it asks of the network; `random` says that each pass draws afresh, from torch's
    generator.
    """

    make: Callable[[nn.Module], nn.Module]
    summary: str
    paper: str
    masks: tuple[str, ...]
    cause: str
    needs: str = "any network"
    random: bool = False


BROKEN: dict[str, BrokenDefense] = {
    "distillation": BrokenDefense(
        make=distilled,
        summary="trained on soft labels at T = 100 and asked at T = 1: logits a hundred times as large",
        paper="Papernot et al. 2016; broken by Carlini and Wagner 2017",
        masks=(VANISHING,),
        cause="saturated softmax",
        needs="the network of zoo:mnist-cnn: it is a network of its own, zoo:mnist-distilled-t100",
    ),
    "logit_scaling": BrokenDefense(
        make=LogitScaling,
        summary="logits times 1000",
        paper="what distillation comes to: Carlini and Wagner 2017, section VIII",
        masks=(VANISHING,),
        cause="saturated softmax",
    ),
    "saturated_output": BrokenDefense(
        make=SaturatedOutput,
        summary="log-probabilities of a softmax ten times as sharp, clipped to [1e-6, 1 - 1e-6]",
        paper="cf. saturating activations: Nayebi and Ganguli 2017; broken by Brendel and Bethge 2017",
        masks=(VANISHING, "probabilities as output"),
        cause="saturated output",
    ),
    "rounding": BrokenDefense(
        make=Rounding,
        summary="pixels rounded to 5 bits",
        paper="feature squeezing: Xu et al. 2018; broken by He et al. 2017",
        masks=(SHATTERED,),
        cause=CUT,
    ),
    "jpeg": BrokenDefense(
        make=Jpeg,
        summary="JPEG of quality 75, by Pillow",
        paper="Dziugaite et al. 2016; Guo et al. 2018; broken by Athalye et al. 2018",
        masks=(SHATTERED,),
        cause=CUT,
        needs="1 or 3 channels",
    ),
    "thermometer": BrokenDefense(
        make=Thermometer,
        summary="pixels as a thermometer code of 16 bits, and back",
        paper="Buckman et al. 2018; broken by Athalye et al. 2018",
        masks=(SHATTERED,),
        cause=CUT,
    ),
    "random_resize_pad": BrokenDefense(
        make=RandomResizePad,
        summary="shrunk to 88..100 % and put at a random place on black, in 8 bits",
        paper="Xie et al. 2018; broken by Athalye et al. 2018",
        masks=(STOCHASTIC, SHATTERED),
        cause="random forward pass",
        random=True,
    ),
    "noisy_logits": BrokenDefense(
        make=NoisyLogits,
        summary="small noise on the logits whose slope is large and random",
        paper="cf. noise against queries: Byun et al. 2022; averaging breaks it: Athalye et al. 2018",
        masks=(STOCHASTIC,),
        cause="random forward pass",
        random=True,
    ),
    "k_winners": BrokenDefense(
        make=k_winners,
        summary="each ReLU keeps the largest 3 % (16 or more) of its layer, without training for it",
        paper="Xiao et al. 2020; broken by Tramer et al. 2020",
        masks=(SHATTERED,),
        cause="unstable predictions and gradients around the image",
        needs="ReLU or ReLU6 modules, and a network that stands losing most activations",
    ),
    "detached_filter": BrokenDefense(
        make=DetachedFilter,
        summary="a 3x3 Gaussian blur outside the graph",
        paper="a slip rather than a proposal; cf. Athalye et al. 2018, section 3 (shattered gradients)",
        masks=(SHATTERED,),
        cause=CUT,
    ),
    "median_filter": BrokenDefense(
        make=MedianFilter,
        summary="the median of 3x3 pixels, outside the graph",
        paper="feature squeezing: Xu et al. 2018; broken by He et al. 2017",
        masks=(SHATTERED,),
        cause=CUT,
    ),
    "test_time_optimisation": BrokenDefense(
        make=TestTimeOptimisation,
        summary="two gradient steps on the image towards the network's own answer, then a detached image",
        paper="cf. anti-adversaries: Alfarra et al. 2022; such defences examined by Croce et al. 2022",
        masks=("dynamic", SHATTERED),
        cause="optimisation inside the forward pass",
    ),
}
