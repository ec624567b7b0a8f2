"""What a user chooses when the paper is measured again, and the networks that this needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.paper.tables import IMAGENET_NETWORKS, PROTOCOLS, STAND_INS

WEIGHTS = ("V1", "V2")


@dataclasses.dataclass(frozen=True)
class Choices:
    """Where runs go, and what they are of.

    `files` are the user's weights by network. `images` (ids, or paths of pictures) take the place of the paper's four
    in Tables II and III. `stand_in` measures other networks on the sample pictures.
    """

    out: Path
    imagenet: Path | None = None
    weights: str = "V1"
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    images: tuple[str, ...] = ()
    limit: int | None = None
    stand_in: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises `BadInput`."""
        if self.weights not in WEIGHTS:
            raise BadInput(f"Unknown weights {self.weights!r}. There are: {', '.join(WEIGHTS)}.")
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"--limit is {self.limit}; expected a whole number of at least 1.")
        for network in self.files:
            if network not in IMAGENET_NETWORKS:
                near = did_you_mean(network, IMAGENET_NETWORKS)
                raise BadInput(
                    f"--model-file {network}=…: the paper has no network {network!r}.{near} There are: "
                    f"{', '.join(IMAGENET_NETWORKS)}."
                )
        if self.stand_in and (self.files or self.imagenet or self.weights != "V1"):
            raise BadInput(
                "--stand-in brings its own networks and pictures; leave out --imagenet, --weights and files."
            )

    @property
    def suffix(self) -> str:
        """What is added to the names of runs that cannot be compared with the paper."""
        return "-stand-in" if self.stand_in else ""


def network_spec(network: str, choices: Choices) -> str:
    """Return the spec that loads one of the paper's ImageNet networks, or what stands in for it."""
    if choices.stand_in:
        return STAND_INS[network]
    if network in choices.files:
        return _file_spec(network, choices)
    return f"torchvision:{network}@{weights_of(network, choices.weights).name}"


def weights_of(network: str, version: str) -> Any:
    """Return torchvision's weights of a network; those of version 1 where it has no version 2 (AlexNet)."""
    from torchvision import models

    available = models.get_model_weights(network)
    wanted = f"IMAGENET1K_{version}"
    return available[wanted if wanted in available.__members__ else "IMAGENET1K_V1"]


def _file_spec(network: str, choices: Choices) -> str:
    """Return the spec of the user's file, with the preprocessing of torchvision's weights of that network."""
    path = choices.files[network].expanduser()
    if not path.is_file():
        raise BadInput(f"There is no file {path} (from --model-file {network}={choices.files[network]}).")
    transform = weights_of(network, choices.weights).transforms()
    options = {
        "arch": f"torchvision:{network}",
        "mean": ",".join(map(str, transform.mean)),
        "std": ",".join(map(str, transform.std)),
        "size": transform.crop_size[0],
        "resize": transform.resize_size[0],
        "interpolation": transform.interpolation.value,
    }
    return f"file:{path}?" + "&".join(f"{name}={value}" for name, value in options.items())


STAND_IN_COMMAND = "assay paper run --stand-in"


def needs_imagenet(numbers: Sequence[str], choices: Choices) -> str:
    """Return in words what is missing for these tables, what to download, and where to put it."""
    return "\n".join(
        (
            f"{_said(numbers)} ImageNet's validation pictures, which nobody may pass on. Nothing was run.",
            "",
            "Download, after registering at https://image-net.org:",
            "  ILSVRC2012_img_val.tar                 6.3 GB, 50,000 pictures",
            "  ILSVRC2012_devkit_t12.tar.gz           their labels; Kaggle's LOC_val_solution.csv does as well",
            "Unpack them side by side, and name the folder of the pictures:",
            "  mkdir -p imagenet/val && tar -xf ILSVRC2012_img_val.tar -C imagenet/val",
            "  tar -xzf ILSVRC2012_devkit_t12.tar.gz -C imagenet        (or put LOC_val_solution.csv into imagenet)",
            f"  assay paper run {_tables(numbers)} --imagenet imagenet/val",
            "A folder with one folder per class, named by synset, does as well.",
            "",
            "torchvision fetches the weights when they are first used, or takes what is there:",
            *_weights(numbers, choices),
            "Weights of your own: --model-file resnet101=PATH.",
            "",
            f"Without any of it: {STAND_IN_COMMAND} {_tables(numbers)}".rstrip(),
            f"  the same protocol on {', '.join(STAND_INS.values())} and 20 pictures; not comparable with the paper",
        )
    )


def _said(numbers: Sequence[str]) -> str:
    return f"Table {numbers[0]} needs" if len(numbers) == 1 else f"Tables {', '.join(numbers)} need"


def _tables(numbers: Sequence[str]) -> str:
    return " ".join(f"--table {number}" for number in numbers)


def _weights(numbers: Sequence[str], choices: Choices) -> list[str]:
    import torch

    networks = dict.fromkeys(network for number in numbers for network in PROTOCOLS[number].networks)
    lines = []
    for network in networks:
        if network in choices.files:
            continue
        weights = weights_of(network, choices.weights)
        path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
        there = "there already" if path.is_file() else weights.url
        lines.append(f"  {path}  {weights.meta['_file_size']:.0f} MB, {there}")
    return lines
