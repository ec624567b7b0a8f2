"""Contents of the paper's page that nobody measured, with names that try to break out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from assay.paper.inputs import Example, Panel, PaperContents, Probe, TemperatureRow, TrainingLog
from assay.paper.smallest import Changed, Smallest
from assay.paper.tables import AS_PUBLISHED, CORRECTED, PRINTED, Row, TableView
from assay.report.gallery import Bar
from assay.report.provenance import Source
from tests.support.fake_run import HOSTILE, HOSTILE_FILE

EPS = ("0", "0.1", "0.3")
N = 1000
NAIVE, SCALED = "FGSM", "FGSM on the loss at T = 100"


def measured(**hits: tuple[int, ...]) -> dict[str, Mapping[str, tuple[object, ...]]]:
    return {
        "measured": {mode: tuple(one / N for one in row) for mode, row in hits.items()},
        "counts": {mode: tuple((one, N) for one in row) for mode, row in hits.items()},
    }


def digits_table(number: str = "XIV") -> TableView:
    rows = (
        Row(NAIVE, (0.9291, 0.9211, 0.9111), **measured(as_published=(880, 810, 780), corrected=(940, 900, 896))),  # type: ignore[arg-type]
        Row(SCALED, (None,) * 3, **measured(as_published=(880, 470, 21), corrected=(940, 378, 1))),  # type: ignore[arg-type]
    )
    runs = {mode: Path(f"runs/{number}-{mode} {HOSTILE_FILE}") for mode in (AS_PUBLISHED, CORRECTED)}
    return TableView(
        number, f"Accuracy {HOSTILE}", "fraction", EPS, rows, runs, (f"A sentence {HOSTILE}.",), axis="eps"
    )


def printed_table() -> TableView:
    rows = (Row("top-1 error", (13.3, 28.06), {}), Row(HOSTILE, (2.16, 9.9), {}))
    return TableView(
        "I", "Error", "percent", ("resnet101", HOSTILE), rows, {}, (), f"Not measured: assay paper run {HOSTILE}"
    )


def stand_in_table() -> TableView:
    rows = (Row("top-1 error", (77.18, 87.1), {AS_PUBLISHED: (90.0, 100.0)}, {AS_PUBLISHED: ((18, 20), (20, 20))}),)
    return TableView("IV", "Error", "percent", ("0.01", "0.02"), rows, {AS_PUBLISHED: Path("runs/iv")}, stand_in=True)


def classes_table() -> TableView:
    labels = {PRINTED: ("goldfish", "tench"), AS_PUBLISHED: ("goldfish", HOSTILE)}
    rows = (Row("goldfish", (0.9996, 0.0002), {AS_PUBLISHED: (0.9, 0.05)}, {}, labels),)
    return TableView("II", "Classes", "fraction", ("1", "2"), rows, {AS_PUBLISHED: Path("runs/ii")}, axis="rank")


def picture(side: int = 24, channels: int = 3) -> torch.Tensor:
    ramp = torch.linspace(-0.2, 1.2, side)
    return (ramp[None, :, None] * ramp[None, None, :].flip(2)).expand(channels, side, side)


def digits(predicted: Iterable[int]) -> tuple[Example, ...]:
    return tuple(Example(picture(28, 1), true, found) for true, found in enumerate(predicted))


def smallest(true: int) -> Smallest:
    changed = {"mnist-cnn": Changed(picture(28, 1), 3, 1.5 + true), HOSTILE: Changed(picture(28, 1), 9, 0.5 + true)}
    return Smallest(picture(28, 1), true, changed)


def panel(many: int = 3, target: bool = False) -> Panel:
    bars = (Bar("goldfish", 0.7, True), Bar(HOSTILE, 0.2, False, target), Bar("tench", 0.004, False))
    return Panel(f"goldfish {HOSTILE}", {f"picture {i}": picture() for i in range(many)}, bars, "resnet101")


def log(network: str) -> TrainingLog:
    rows = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": 0.5 / e, "validation_accuracy": 1 - 0.2 / e}
        for e in range(1, 6)
    ]
    return TrainingLog(network, f"network {network}", tuple(rows))


def probe(network: str, zero: float = 0.9) -> Probe:
    return Probe(network, 100, 0.9, zero, zero / 4, {0.05: 20.0, 0.5: 500.0}, (0.0, 50.0, 100.0, 1000.0), (5, 5, 90))


def temperature(t: float, seed: int = 0) -> TemperatureRow:
    return TemperatureRow(t, seed, 0.9, {0.1: 0.8, 0.3: 0.7}, {0.1: 0.4, 0.3: 0.01}, t / 120, {0.05: t, 0.5: 3 * t})


def full() -> PaperContents:
    return PaperContents(
        views=(printed_table(), classes_table(), stand_in_table(), digits_table("XIII"), digits_table("XIV")),
        errata={"XIV": (f"An erratum {HOSTILE}.",)},
        panels={1: (panel(1), panel(1)), 2: (panel(3),), 4: (panel(1, target=True),)},
        patches={(name, side): picture(side) for name in (HOSTILE, "toaster") for side in (32, 64)},
        logs=tuple(log(name) for name in ("mnist-cnn", "mnist-teacher-t100", "mnist-distilled-t100")),
        examples={0.0: digits(range(5)), 0.3: digits([9] * 5)},
        smallest=(smallest(0), smallest(1)),
        probes=(probe("mnist-cnn", 0.0), probe(HOSTILE)),
        temperatures=(temperature(1), temperature(100), temperature(100, 1)),
        unfit={digits_table("XIV").runs[CORRECTED]: (f"only the first {N} samples {HOSTILE}",)},
        sources=(Source(f"Model {HOSTILE}", (("weights", "8d2f0c9b"), ("finished", "2026-11-23 10:00:00 UTC"))),),
        commands=(f"assay paper run --table XIV {HOSTILE_FILE}",),
        out=Path("runs/sen2023"),
    )  # fmt: skip
