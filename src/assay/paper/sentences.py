"""Sentences about the tables, each computed from what was measured, and the evidence beside Table XIV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.choices import weights_of
from assay.paper.patches import STAND_IN_EPOCHS
from assay.paper.tables import MODES, PRINTED, STAND_INS, Kind, PrintedTable, Protocol, Row
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.run import Run


PROBED = ("mnist-cnn", "mnist-distilled-t100", "mnist-distilled-t100-as-published")


def probe_file(out: Path, name: str) -> Path:
    """Return where the probe of `zoo:NAME` is kept."""
    return out / f"probe-{name}.json"


def probe_networks(out: Path, limit: int | None = None, device: str = "cpu") -> Iterator[Path]:
    """Probe the plain network and the distilled ones on MNIST's test images, and yield each file as it is written.

    A probe of as many images that is there already is left as it is.
    """
    from assay.audit import probe_gradients
    from assay.data import load_data
    from assay.files import write_atomically
    from assay.models import load_model

    for name in PROBED:
        model = load_model(f"zoo:{name}", device=device)
        data = load_data("mnist/test", model=model, limit=limit)
        path = probe_file(out, name)
        if (read_probe(out, name) or {}).get("n") != len(data):
            probe = probe_gradients(model, data)
            write_atomically(path, (json.dumps(probe.to_dict(), indent=1) + "\n").encode())
            yield path


def read_probe(out: Path, name: str) -> dict[str, Any] | None:
    """Return the probe of `zoo:NAME` as plain values, or None where there is none that can be read."""
    try:
        probe = json.loads(probe_file(out, name).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return probe if isinstance(probe, dict) and {"n", "zero"} <= set(probe) else None


WORDS = {"as_published": "as published", "corrected": "corrected"}


@dataclasses.dataclass(frozen=True)
class Statement:
    """A table and what was measured of it: the finished `runs` by mode."""

    table: PrintedTable
    protocol: Protocol
    rows: tuple[Row, ...]
    runs: dict[str, Run]
    stand_in: bool

    def sentences(self) -> tuple[str, ...]:
        """Return what the numbers say, the most important first."""
        found = [*self._warnings()]
        if self.runs and not self.stand_in:
            found += self._differences()
        if self.protocol.kind is Kind.SWEEP:
            found += self._peaks()
        if self.protocol.kind is Kind.DIGITS:
            found += [*self._refuted(), *self._probed()]
        if self.protocol.kind is Kind.CLEAN:
            found += published_errors(self.protocol.networks, self.table)
        return (*found, *self.table.errata)

    def written(self, value: float) -> str:
        """Write a value of the table with its unit."""
        return f"{value:.2f} %" if self.table.unit == "percent" else f"{value:.4f}"

    def _warnings(self) -> Iterator[str]:
        if self.stand_in:
            names = ", ".join(f"{STAND_INS[one]} for {one}" for one in self.protocol.networks)
            yield (
                f"Stand-in: {names}, on the sample pictures. The protocol is the paper's, the networks and pictures "
                "are not; the numbers cannot be compared with the printed ones."
            )
            if self.protocol.kind is Kind.PATCHES:
                yield (
                    f"The stand-in's patches take {STAND_IN_EPOCHS} steps of Adam, on all its pictures for training at "
                    "once, where the paper takes five epochs of SGD, which would be five steps here. That is few: a "
                    "patch of ten times as many steps reaches its class (assay patch train --epochs 400)."
                )
        for mode, run in self._each_run():
            # four images are what the tables of single images are of
            if not run.reportable and not self.stand_in and self.protocol.kind is not Kind.PANELS:
                why = "; ".join(run.manifest["not_reportable_because"])
                yield f"Not to be reported, {WORDS[mode]}: {why}."
        if not self.stand_in and self.protocol.needs_imagenet:
            yield from self._other_weights()

    def _each_run(self) -> Iterator[tuple[str, Run]]:
        """Yield every run once, under the first of its modes."""
        seen = set()
        for mode, run in self.runs.items():
            if run.path not in seen:
                seen.add(run.path)
                yield mode, run

    def _other_weights(self) -> Iterator[str]:
        models = dict.fromkeys(model for run in self.runs.values() for model in run.manifest["models"])
        others = [name for name in models if "@IMAGENET1K_V1" not in name]
        if others:
            yield f"Measured with {', '.join(others)}; the paper's weights are IMAGENET1K_V1."

    def _differences(self) -> Iterator[str]:
        for row in self.rows:
            for mode in MODES:
                if mode in row.measured and any(value is not None for value in row.printed):
                    yield from self._difference(row, mode)

    def _difference(self, row: Row, mode: str) -> Iterator[str]:
        if row.labels:
            yield from self._classes(row, mode)
            return
        pairs = [
            (abs(ours - theirs), column, theirs, ours)
            for column, theirs, ours in zip(self.table.columns, row.printed, row.measured[mode], strict=False)
            if theirs is not None and ours is not None
        ]
        if not pairs:
            return
        size, column, theirs, ours = max(pairs, key=lambda one: one[0])
        far = f"{size:.2f} points" if self.table.unit == "percent" else f"{size:.4f}"
        yield (
            f"{row.name}, {WORDS[mode]}: at most {far} from the printed value, at {self.table.axis} {column} "
            f"(printed {self.written(theirs)}, measured {self.written(ours)})."
        )

    def _classes(self, row: Row, mode: str) -> Iterator[str]:
        ours, theirs = row.labels.get(mode), row.labels.get(PRINTED)
        if not ours or not theirs:
            return
        shared = len(set(ours) & set(theirs))
        first = f"{theirs[0]} first, as printed" if ours[0] == theirs[0] else f"{ours[0]} first, printed {theirs[0]}"
        yield f"{row.name}, {WORDS[mode]}: {first}; {shared} of the {len(theirs)} printed classes."

    def _refuted(self) -> Iterator[str]:
        """Yield where another attack takes at least half of what the printed one leaves."""
        naive, *others = self.rows
        for mode in MODES:
            left = naive.measured.get(mode, (None,))[-1]
            # what was measured on fewer images is no better for it
            n = naive.images(mode)
            ends = [
                (row.measured[mode][-1], row.name) for row in others if mode in row.measured and row.images(mode) == n
            ]
            known = [(value, name) for value, name in ends if value is not None]
            if left and known and min(known)[0] < left / 2:
                value, name = min(known)
                at = f"at eps {self.table.columns[-1]} {naive.name} leaves {self.written(left)}"
                yield (
                    f"Refuted, {WORDS[mode]}: {at}, {name} {self.written(value)}. The flat line "
                    "is a gradient that vanishes, not robustness."
                )

    def _probed(self) -> Iterator[str]:
        for run in self.runs.values():
            for name in self.protocol.networks:
                probe = read_probe(run.path.parent, name)
                if probe is not None and any(f"zoo:{name}" == one.partition("?")[0] for one in run.manifest["models"]):
                    share = f"{100 * probe['zero']:.1f} %"
                    yield f"zoo:{name}: the gradient is exactly zero for {share} of {probe['n']:,} images."

    def _peaks(self) -> Iterator[str]:
        for row in self.rows:
            told = [f"printed at eps {peak(self.table.columns, row.printed)}"]
            told += [
                f"{WORDS[mode]} at {found}"
                for mode in MODES
                if (found := peak(self.table.columns, row.measured.get(mode, ())))
            ]
            yield f"{row.name} is highest: {', '.join(told)}."


def notes(mode: str, run: Run) -> Iterator[str]:
    """Yield how an attack on fewer images was made: its version, its images, its budgets."""
    for cell in run.cells.values():
        eps = [f"{float(one):g}" for one in cell["eps"]]
        how = "the standard version"
        if cell["specs"]["attack"].get("version") == "rand":
            how = "dropout stays on, so it is the version for networks that answer at random, on the mean of 20 looks"
        where = f"The first {plural(int(cell['n']), 'image')}, at eps {', '.join(eps)}"
        yield f"AutoAttack, {WORDS[mode]}: {how}. {where}: an image that survives costs thousands of passes."


def peak(columns: Sequence[str], values: Sequence[float | None]) -> str:
    """Return the column of the highest value, the first of several; "" where there is none."""
    known = [(value, -at) for at, value in enumerate(values) if value is not None]
    return columns[-max(known)[1]] if known else ""


def published_errors(networks: Sequence[str], table: PrintedTable) -> Iterator[str]:
    """Yield what torchvision publishes for the weights of Table I, beside what is printed."""
    for at, network in enumerate(networks):
        weights = weights_of(network, "V1")
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        told = [
            f"{row.name} {100 - metrics[key]:.2f} % (printed {row.values[at]:.2f} %)"
            for row, key in zip(table.rows, ("acc@1", "acc@5"), strict=True)
        ]
        yield f"torchvision publishes for {network}, {weights.name}: {', '.join(told)}."
