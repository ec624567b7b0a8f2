"""What the ImageNet tables need, and where to get it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.paper.choices import Choices, weights_of
from assay.paper.tables import PROTOCOLS, STAND_INS

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
