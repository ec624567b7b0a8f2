"""The defences, in one visible table: name -> how to put it around a network, what it costs, where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import LookPasses
from assay.defenses.copy_detectors import DropoutUncertainty, Odds, SqueezeDetector, squeeze_passes
from assay.defenses.crops import CropEnsemble, ResizePad
from assay.defenses.denoisers import Autoencoder, LumaDenoiser
from assay.defenses.detectors import Energy, LogitMargin, MaxSoftmax
from assay.defenses.double_masking import DoubleMasking, first_masks
from assay.defenses.dropout import RandomDropout
from assay.defenses.entry import Defense
from assay.defenses.feature_detectors import KernelDensity, LocalDimension, Mahalanobis
from assay.defenses.jpeg import Jpeg
from assay.defenses.learned_detectors import BinaryDetector, ExtraClass, MagNet, magnet_passes
from assay.defenses.rbf import RbfHead
from assay.defenses.smoothing import Smoothed, smoothed_passes
from assay.defenses.total_variation import TotalVariation
from assay.defenses.transformations import BitDepth, GaussianNoise, Median, NonLocalMeans


def _per_crop(options: Mapping[str, Any]) -> LookPasses:
    return LookPasses(options["crops"], options["crops"])


def _per_mask(options: Mapping[str, Any]) -> LookPasses:
    # of an image whose one-mask answers agree; others take more, which the layer itself says
    count = first_masks(options["shape"], options["patch"], options["masks"])
    return LookPasses(count, count)


def _beside(option: str) -> Callable[[Mapping[str, Any]], LookPasses]:
    # the image itself, and as many copies as the option says
    return lambda options: LookPasses(1 + options[option], 1 + options[option])


def _with_step(options: Mapping[str, Any]) -> LookPasses:
    return LookPasses(2, 2, 1) if options["step"] else LookPasses()


TRANSFORMATIONS: dict[str, Defense] = {
    "bit-depth": Defense(
        BitDepth, "grey levels rounded to a few bits", "Xu et al. 2018", "1704.01155", differentiable=False,
        backward="sigmoids at the steps",
    ),
    "median": Defense(Median, "the median of a window around each value", "Xu et al. 2018", "1704.01155"),
    "non-local-means": Defense(
        NonLocalMeans, "non-local means of OpenCV on 8-bit values", "Xu et al. 2018", "1704.01155",
        differentiable=False, backward="the identity", channels=(1, 3),
    ),
    "jpeg": Defense(
        Jpeg, "written as JPEG and read again", "Dziugaite et al. 2016; Guo et al. 2018", "1608.00853",
        differentiable=False, backward="a differentiable JPEG of the same tables", channels=(1, 3),
    ),
    "total-variation": Defense(
        TotalVariation, "the smoothest image near random pixels", "Guo et al. 2018", "1711.00117", random=True,
        differentiable=False, backward="the identity",
    ),
    "crop-ensemble": Defense(
        CropEnsemble, "the mean answer to random crops, scaled up", "Guo et al. 2018", "1711.00117", passes=_per_crop,
        random=True, around=True,
    ),
    "resize-pad": Defense(
        ResizePad, "shrunk at random and put at a random place on black", "Xie et al. 2018", "1711.01991", random=True,
    ),
    "gaussian-noise": Defense(
        GaussianNoise, "Gaussian noise on every value", "cf. Cohen et al. 2019", "1902.02918", random=True,
    ),
    "dropout": Defense(
        RandomDropout, "the network's dropout left on", "Feinman et al. 2017", "1703.00410", random=True, around=True,
    ),
    "autoencoder": Defense(
        Autoencoder, "restored by a denoising autoencoder", "Meng and Chen 2017 (MagNet)", "1705.09064",
    ),
    "y-denoiser": Defense(
        LumaDenoiser, "noise taken off Y of YCbCr by a network", "Pestana et al. 2020", "2003.00883", channels=(1, 3),
    ),
    "rbf-head": Defense(
        RbfHead, "negative distances to class centres as the last layer", "Zadeh et al. 2018", "1812.03190",
        around=True,
    ),
    "double-masking": Defense(
        DoubleMasking, "the answer on which images with one or two squares masked agree", "Xiang et al. 2022",
        "2108.09135", passes=_per_mask, differentiable=False,
        backward="the mean of the one-mask answers that are not lost yet", around=True, outermost=True,
    ),
}  # fmt: skip
"""Steps that change an image before the network sees it, and layers that answer in its place."""

DETECTORS: dict[str, Defense] = {
    "max-softmax": Defense(
        MaxSoftmax, "refuses images whose highest probability is low", "Hendrycks and Gimpel 2017", "1610.02136",
        detects=True,
    ),
    "margin": Defense(
        LogitMargin, "refuses images whose highest logit leads by little", "cf. Hendrycks and Gimpel 2017",
        "1610.02136", detects=True,
    ),
    "energy": Defense(
        Energy, "refuses images of high free energy", "Liu et al. 2020", "2010.03759", detects=True,
    ),
    "squeeze-detector": Defense(
        SqueezeDetector, "compares the softmax of the image and of squeezed copies", "Xu et al. 2018", "1704.01155",
        passes=squeeze_passes, differentiable=False, backward="those of the squeezers", detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=views",),
    ),
    "dropout-uncertainty": Defense(
        DropoutUncertainty, "how much the softmax varies under dropout", "Feinman et al. 2017", "1703.00410",
        passes=_beside("masks"), random=True, detects=True,
    ),
    "kernel-density": Defense(
        KernelDensity, "density of the features among those of the predicted class", "Feinman et al. 2017",
        "1703.00410", detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=features",),
    ),
    "lid": Defense(
        LocalDimension, "local intrinsic dimension of the features", "Ma et al. 2018", "1801.02613", detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=features",),
    ),
    "mahalanobis": Defense(
        Mahalanobis, "distance of the features to the nearest class mean", "Lee et al. 2018", "1807.03888",
        passes=_with_step, detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=features",),
    ),
    "binary-detector": Defense(
        BinaryDetector, "a network that tells attacked images from clean ones", "Gong et al. 2017; Metzen et al. 2017",
        "1704.04960", detects=True,
    ),
    "extra-class": Defense(
        ExtraClass, "a class more, for attacked images", "Grosse et al. 2017", "1702.06280", detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=features",),
    ),
    "magnet": Defense(
        MagNet, "how badly an autoencoder restores the image", "Meng and Chen 2017", "1705.09064",
        passes=magnet_passes, detects=True,
    ),
    "odds": Defense(
        Odds, "how unusually the logits shift under noise", "Roth et al. 2019", "1902.04818",
        passes=_beside("looks"), random=True, detects=True,
        adaptive=("pgd:steps=100,objective=margin,adaptive=logits",),
    ),
}  # fmt: skip
"""Detectors, which refuse images."""

CERTIFIABLE: dict[str, Defense] = {
    "smoothed": Defense(
        Smoothed, "the class that most noisy copies get", "Cohen et al. 2019", "1902.02918", passes=smoothed_passes,
        random=True, differentiable=False, backward="the logarithm of the mean probability", rejects=True, around=True,
        adaptive=("pgd:steps=20,step_size=0.1,objective=cross_entropy,adaptive=selective",),
    ),
}  # fmt: skip
"""Layers of which something can be proved: certificates speak of the model behind them."""

DEFENSES: dict[str, Defense] = {**TRANSFORMATIONS, **DETECTORS, **CERTIFIABLE}


def defense(name: str) -> Defense:
    """Return the line called `name`. Raises `BadInput` for an unknown one."""
    if name not in DEFENSES:
        near = did_you_mean(name, DEFENSES)
        raise BadInput(f"Unknown defence {name!r}.{near} There are: {', '.join(DEFENSES)}.")
    return DEFENSES[name]
