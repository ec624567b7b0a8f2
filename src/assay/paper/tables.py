"""How each table of the paper is measured: its networks, and the study that measures it in each mode."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from assay.paper.printed import table_number
from assay.paper.view import AS_PUBLISHED, CORRECTED, MODES

RESNET, ALEXNET, REGNET = "resnet101", "alexnet", "regnet_y_400mf"
IMAGENET_NETWORKS = (RESNET, ALEXNET, REGNET)

STAND_INS = {RESNET: "efficientnet-lite0", ALEXNET: "efficientnet-lite1", REGNET: "efficientnet-lite2"}
"""What is measured with `--stand-in`, where neither ImageNet nor the networks' weights are there."""


class Kind(enum.Enum):
    """What a table measures."""

    CLEAN = "error without an attack"
    PANELS = "the five likeliest classes of four images"
    SWEEP = "error under FGSM"
    PATCHES = "success of patches"
    DIGITS = "accuracy under FGSM"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a table is measured. `studies` holds a study's name by mode; `top` is K where the K likeliest count.

    `beside` holds, by mode, the study of an attack that is too costly for all images: its rows join the table's.
    `smallest` names the study of one image's smallest changes, as pictures.
    """

    number: str
    kind: Kind
    networks: tuple[str, ...]
    studies: Mapping[str, str]
    top: int = 1
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)
    smallest: str = ""

    def names(self, mode: str) -> tuple[str, ...]:
        """Return the studies that are run for the table in a mode, its own first."""
        return tuple(name for name in (self.studies[mode], self.beside.get(mode), self.smallest) if name)

    @property
    def needs_imagenet(self) -> bool:
        """Whether its pictures are ImageNet's."""
        return self.kind is not Kind.DIGITS


def _one(number: str) -> dict[str, str]:
    """Return a study that serves both modes: without an attack they do not differ."""
    return dict.fromkeys(MODES, f"table-{number.lower()}")


def _two(number: str) -> dict[str, str]:
    return {mode: f"table-{number.lower()}-{mode.replace('_', '-')}" for mode in (AS_PUBLISHED, CORRECTED)}


_PROTOCOLS = (
    Protocol("I", Kind.CLEAN, IMAGENET_NETWORKS, _one("I")),
    Protocol("II", Kind.PANELS, (RESNET,), _one("II")),
    Protocol("III", Kind.PANELS, (RESNET,), _two("III")),
    Protocol("IV", Kind.SWEEP, (RESNET,), _two("IV")),
    Protocol("V", Kind.SWEEP, (ALEXNET,), _two("V")),
    Protocol("VI", Kind.SWEEP, (REGNET,), _two("VI")),
    # the same runs, counted among the first and among the first five classes
    Protocol("VII", Kind.PATCHES, (RESNET,), _two("VII"), 1),
    Protocol("VIII", Kind.PATCHES, (RESNET,), _two("VII"), 5),
    Protocol("IX", Kind.PATCHES, (ALEXNET,), _two("IX"), 1),
    Protocol("X", Kind.PATCHES, (ALEXNET,), _two("IX"), 5),
    Protocol("XI", Kind.PATCHES, (REGNET,), _two("XI"), 1),
    Protocol("XII", Kind.PATCHES, (REGNET,), _two("XI"), 5),
    Protocol("XIII", Kind.DIGITS, ("mnist-cnn",), _two("XIII")),
    Protocol(
        "XIV",
        Kind.DIGITS,
        ("mnist-distilled-t100", "mnist-distilled-t100-as-published"),
        _two("XIV"),
        beside=_two("XIV-autoattack"),
        smallest="table-xiv-smallest",
    ),
)
PROTOCOLS: Mapping[str, Protocol] = {one.number: one for one in _PROTOCOLS}

FIGURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "1": ("images and their five likeliest classes, no attack", ("II",)),
    "2": ("images under FGSM and their five likeliest classes", ("III",)),
    "3": ("the trained patches", ("VII", "VIII")),
    "4": ("images with a patch, ResNet-101", ("VII", "VIII")),
    "5": ("images with a patch, AlexNet", ("IX", "X")),
    "6": ("images with a patch, RegNetY-400MF", ("XI", "XII")),
    "7": ("losses of the MNIST network", ("XIII",)),
    "8": ("accuracy of the MNIST network against eps", ("XIII",)),
    "9": ("digits at every eps", ("XIII",)),
    "10": ("losses of the distilled network", ("XIV",)),
    "11": ("accuracy of the distilled network against eps", ("XIV",)),
}
"""What each figure shows, and the tables whose runs it is drawn from."""


def protocol(number: str) -> Protocol:
    """Return how a table is measured. Raises `BadInput` for a number that none has."""
    return PROTOCOLS[table_number(number)]
