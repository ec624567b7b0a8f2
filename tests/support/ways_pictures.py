"""Twenty-four pictures of three classes, grey and in colour, in every form in which data can be handed over."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split

import assay

SIDE, COUNT = 12, 24
EVERY = frozenset(range(COUNT))
LABELS = torch.arange(COUNT) % 3
# these carry another class's pattern, so that a network that knows the patterns is wrong about them
MISTAKEN = (4, 11, 15)
NAMES = ("cat", "ant", "bee")


@functools.cache
def pixels(channels: int) -> Tensor:
    """Return uint8 `[24, C, 12, 12]`: a brighter band of rows for each class, noise, and black and white spots."""
    draw = torch.Generator().manual_seed(channels)
    made = torch.randint(50, 140, (COUNT, channels, SIDE, SIDE), generator=draw)
    for i in range(COUNT):
        band = 4 * int((LABELS[i] + (i in MISTAKEN)) % 3)
        made[i, :, band : band + 4] += 5 * i
    spots = torch.rand(made.shape, generator=draw)
    made[spots < 0.1], made[spots > 0.95] = 0, 255
    return made.to(torch.uint8)


def images(channels: int) -> Tensor:
    """Return the pictures as float32 in [0, 1]."""
    return pixels(channels).float() / 255


def picture(channels: int, i: int) -> Image.Image:
    """Return one of the pictures for Pillow: of mode L or RGB."""
    one = pixels(channels)[i].permute(1, 2, 0).numpy()
    return Image.fromarray(one[..., 0] if channels == 1 else one)


class Pictures(Dataset[tuple[Image.Image, int]]):
    """The pictures as Pillow images, and what is beside them in `more`."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return picture(self.channels, i), int(LABELS[i])


class WithTargets(TensorDataset):
    """A data set that keeps its labels as an attribute, as torchvision's do."""

    def __init__(self, channels: int) -> None:
        super().__init__(images(channels), LABELS)
        self.targets = LABELS.tolist()


@dataclasses.dataclass(frozen=True)
class Source:
    """A form of the data: how it is made (`channels` in, what is handed over out), and which pictures are in it.

    `pictures` says that images come from Pillow, in as many channels as the model is known to take.
    """

    make: Callable[[int], Any]
    taken: frozenset[int] = EVERY
    pictures: bool = False


def _decoys(channels: int) -> TensorDataset:
    # what is not to be chosen: other pictures under wrong labels
    return TensorDataset(1 - images(channels)[:6], (LABELS[:6] + 1) % 3)


def _beside(channels: int) -> ConcatDataset[Any]:
    return ConcatDataset([_decoys(channels), TensorDataset(images(channels), LABELS)])


def _split(channels: int) -> Any:
    whole = TensorDataset(images(channels), LABELS)
    return random_split(whole, [16, 8], generator=torch.Generator().manual_seed(0))[0]


OBJECTS: dict[str, Source] = {
    "tensor_dataset": Source(lambda c: TensorDataset(images(c), LABELS)),
    "byte_tensor_dataset": Source(lambda c: TensorDataset(pixels(c), LABELS)),
    "double_tensor_dataset": Source(lambda c: TensorDataset(images(c).double(), LABELS.to(torch.int32))),
    "dataset_with_targets": Source(WithTargets),
    "tensors": Source(lambda c: (images(c), LABELS)),
    "bytes_and_list": Source(lambda c: (pixels(c), LABELS.tolist())),
    "numpy_arrays": Source(lambda c: (images(c).numpy(), LABELS.numpy())),
    "numpy_bytes": Source(lambda c: [pixels(c).numpy(), LABELS.to(torch.uint8).numpy()]),
    "pairs": Source(lambda c: [(images(c)[i], int(LABELS[i])) for i in range(COUNT)]),
    "pairs_of_arrays": Source(lambda c: [(pixels(c)[i].numpy(), np.int64(LABELS[i])) for i in range(COUNT)]),
    "mappings": Source(lambda c: [{"image": images(c)[i], "label": int(LABELS[i])} for i in range(COUNT)]),
    "mapping_of_arrays": Source(lambda c: {"image": images(c), "label": LABELS}),
    "subset": Source(lambda c: Subset(_beside(c), list(range(29, 5, -1)))),
    "subset_of_subset": Source(
        lambda c: Subset(Subset(_beside(c), list(range(6, 30))), [3, 1, 2]), frozenset({1, 2, 3})
    ),
    "concat": Source(
        lambda c: ConcatDataset([Subset(WithTargets(c), range(9)), Subset(WithTargets(c), range(9, COUNT))])
    ),
    "random_split": Source(
        _split, frozenset(torch.randperm(24, generator=torch.Generator().manual_seed(0))[:16].tolist())
    ),
    "loader": Source(lambda c: DataLoader(TensorDataset(images(c), LABELS), batch_size=7)),
    "shuffling_loader": Source(lambda c: DataLoader(WithTargets(c), batch_size=5, shuffle=True, drop_last=True)),
    "pillow_dataset": Source(Pictures, pictures=True),
    "pillow_mappings": Source(
        lambda c: [{"img": picture(c, i), "label": int(LABELS[i])} for i in range(COUNT)], pictures=True
    ),
    "loaded": Source(lambda c: assay.load_data(TensorDataset(images(c), LABELS))),
    "loaded_in_part": Source(lambda c: assay.load_data((images(c), LABELS), limit=7), frozenset(range(7))),
}


def _named(form: str, *, pictures: bool = False) -> Source:
    # `{c}` is the number of channels
    return Source(lambda c: form.format(c=c), pictures=pictures)


NAMED_SOURCES: dict[str, Source] = {
    "folder_by_names": _named("folder:{c}/names?order=cat,ant,bee", pictures=True),
    "folder_in_order_of_names": _named("folder:{c}/sorted", pictures=True),
    "folder_by_numbers": _named("folder:{c}/numbers", pictures=True),
    "folder_by_a_file": _named("folder:{c}/names?order=classes.txt", pictures=True),
    "folder_from_one": _named("folder:{c}/from_one?order=from-one", pictures=True),
    "csv": _named("table:{c}/labels.csv", pictures=True),
    "tsv": _named("csv:{c}/labels.tsv?label=kind", pictures=True),
    "parquet": _named("table:{c}/labels.parquet", pictures=True),
    "jsonl": _named("table:{c}/labels.jsonl", pictures=True),
    "npz": _named("npz:{c}/arrays.npz"),
    "npz_channels_last": _named("npz:{c}/last.npz?image=pictures&label=kinds"),
    "npy": _named("npz:{c}/images.npy?label=labels.npy"),
    "hdf5": _named("hdf5:{c}/arrays.h5?image=test/x&label=test/y"),
}


def write(root: Path) -> None:
    """Write the pictures into the folder `root`, as `NAMED_SOURCES` reads them."""
    for channels in (1, 3):
        _write_pictures(root / str(channels), channels)
        _write_tables(root / str(channels))
        _write_arrays(root / str(channels), channels)
    (root / "classes.txt").write_text("\n".join(NAMES))


def _write_pictures(root: Path, channels: int) -> None:
    for i in range(COUNT):
        label = int(LABELS[i])
        folders = (
            f"names/{NAMES[label]}",
            f"sorted/{'abc'[label]}",
            f"numbers/{label}",
            f"from_one/{label + 1}",
            "flat",
        )
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture(channels, i).save(root / folder / f"{i}.png")


def _write_tables(root: Path) -> None:
    # the names of files do not follow the order of rows
    rows = [(f"flat/{i}.png", int(LABELS[i])) for i in reversed(range(COUNT))]
    (root / "labels.csv").write_text("image,label\n" + "".join(f"{file},{label}\n" for file, label in rows))
    (root / "labels.tsv").write_text("file\tkind\n" + "".join(f"{file}\t{'abc'[label]}\n" for file, label in rows))
    (root / "labels.jsonl").write_text("".join(json.dumps({"path": f, "label": n}) + "\n" for f, n in rows))
    pq.write_table(pa.table({"path": [f for f, _ in rows], "label": [n for _, n in rows]}), root / "labels.parquet")


def _write_arrays(root: Path, channels: int) -> None:
    bytes_, labels = pixels(channels).numpy(), LABELS.numpy()
    np.savez(root / "arrays.npz", x=bytes_, y=labels)
    np.savez(root / "last.npz", pictures=images(channels).permute(0, 2, 3, 1).numpy(), kinds=np.eye(3)[labels])
    np.save(root / "images.npy", images(channels).numpy())
    np.save(root / "labels.npy", labels)
    try:
        import h5py
    except ImportError:
        return
    with h5py.File(root / "arrays.h5", "w") as file:
        file["test/x"], file["test/y"] = bytes_, labels
