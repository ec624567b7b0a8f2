"""The tables of Sen et al. 2023 as data: printed numbers, what is wrong with them, and their lines and columns."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, did_you_mean


@dataclasses.dataclass(frozen=True)
class PrintedRow:
    """A line of a table: one value per column, and the classes they belong to where the table names any."""

    name: str
    values: tuple[float, ...]
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PrintedTable:
    """A table as printed. Values are in `unit` ("percent" or "fraction"); `axis` says what the columns are."""

    number: str
    title: str
    unit: str
    axis: str
    columns: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    errata: tuple[str, ...]


@functools.cache
def printed_tables() -> Mapping[str, PrintedTable]:
    """Return all tables by their Roman number, in order."""
    text = (files("assay.paper") / "printed.json").read_text("utf-8")
    return {number: _table(number, raw) for number, raw in json.loads(text).items()}


def _table(number: str, raw: Mapping[str, Any]) -> PrintedTable:
    rows = [PrintedRow(row["name"], tuple(row["values"]), tuple(row.get("labels", ()))) for row in raw["rows"]]
    return PrintedTable(
        number=number,
        title=raw["title"],
        unit=raw["unit"],
        axis=raw["axis"],
        columns=tuple(raw["columns"]),
        rows=tuple(rows),
        errata=tuple(raw["errata"]),
    )


def printed_table(number: str) -> PrintedTable:
    """Return one table. Raises `BadInput` for a number that none has."""
    return printed_tables()[table_number(number)]


def errata() -> dict[str, tuple[str, ...]]:
    """Return facts about the printed text by table."""
    return {number: table.errata for number, table in printed_tables().items()}


def table_number(words: str) -> str:
    """Return a table's Roman number as the user may write it: `IV`, `iv`, `4`, `Table IV`."""
    known = list(printed_tables())
    text = re.sub(r"^table[\s-]*", "", words.strip(), flags=re.IGNORECASE).upper()
    if text.isdecimal() and 1 <= int(text) <= len(known):
        return known[int(text) - 1]
    if text in known:
        return text
    near = did_you_mean(text, known)
    raise BadInput(f"There is no table {words!r}.{near} The paper has Tables {known[0]} to {known[-1]}.")


def in_order(numbers: Iterable[str]) -> list[str]:
    """Return table numbers in the paper's order, each once."""
    wanted = {table_number(number) for number in numbers}
    return [number for number in printed_tables() if number in wanted]


AS_PUBLISHED = "as_published"
CORRECTED = "corrected"
MODES = (AS_PUBLISHED, CORRECTED)
PRINTED = "printed"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: what was printed, and what was measured in each mode, column by column.

    A value is None where nothing was printed or nothing has been measured. `counts` holds (hits, n) of the measured
    values where they are shares; `intervals` (fractions) stand in for those of the counts where observations are not
    independent. `labels` holds the classes that the values belong to, by mode and under `PRINTED`,
    where the table names any.
    """

    name: str
    printed: tuple[float | None, ...]
    measured: Mapping[str, tuple[float | None, ...]]
    counts: Mapping[str, tuple[tuple[int, int] | None, ...]] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, tuple[tuple[float, float] | None, ...]] = dataclasses.field(default_factory=dict)

    def images(self, mode: str) -> int | None:
        """Return on how many images it was measured in a mode, None where that is not known."""
        return next((count[1] for count in self.counts.get(mode, ()) if count is not None), None)


@dataclasses.dataclass(frozen=True)
class TableView:
    """One table of the paper. `number` is Roman; values are in `unit` ("percent" or "fraction").

    `runs` are the finished run directories by mode. `sentences` say in plain words where printed and measured differ,
    and why. `missing` says what to do about numbers that are not there ("" where nothing is missing). `stand_in` marks
    numbers of other networks and pictures, which cannot be compared with the printed ones. `axis` says what the
    columns are. `notes` say what stands behind rows that were not printed.
    """

    number: str
    title: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    runs: Mapping[str, Path]
    sentences: tuple[str, ...] = ()
    missing: str = ""
    stand_in: bool = False
    axis: str = ""
    notes: tuple[str, ...] = ()


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
