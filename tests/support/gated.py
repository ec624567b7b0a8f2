"""Run directories of any fate: cells as a plan makes them, and records in which every sample fares as it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.core.budget import parse_budget
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.methods import told_method
from assay.evaluation.records.manifest import write_manifest
from assay.evaluation.records.schema import SCHEMA
from assay.evaluation.records.store import Store
from assay.evaluation.records.verdicts import Verdict, keep_verdicts
from assay.evaluation.run import STUDY_FILE, Run
from assay.evaluation.study.spec import AttackSpec, DataSpec, ModelSpec, Study, ThreatSpec
from assay.evaluation.study.yaml_source import write_yaml

WRONG, BROKEN, ERROR, LEFT = "clean_wrong", "broken", "error", "survived"
MODEL, DATA = "zoo:mnist-cnn", "mnist/test"


def fates(left: int, broken: int, wrong: int = 0, errors: int = 0) -> list[str]:
    """Return the statuses of so many samples."""
    return [LEFT] * left + [BROKEN] * broken + [WRONG] * wrong + [ERROR] * errors


@dataclasses.dataclass(frozen=True)
class Fate:
    """A cell: an attack on a model, and the status of each sample at each budget (as written)."""

    statuses: Mapping[str, Sequence[str]]
    attack: str = "fgsm"
    model: str = MODEL
    weights: str = "aaaa"
    data: str = DATA
    fingerprint: str = "f00d"
    norm: str = "linf"
    grid: int | None = None
    labels: Any = None
    question: str = "worst_case"
    goal: str = "untargeted"
    seed: int = 0
    version: int = 1
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] = tuple(map(str, range(10)))

    @property
    def n(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.statuses.values())))

    @property
    def selection(self) -> DataSpec:
        """The data, as a study writes them."""
        return DataSpec(source=self.data, labels=self.labels)

    @property
    def cell(self) -> Cell:
        """The resolved cell."""
        name, _, options = self.attack.partition(":")
        given = dict(one.split("=") for one in options.split(",") if one)
        attack = AttackSpec.model_validate({"attack": name, **{key: int(value) for key, value in given.items()}})
        return Cell(
            model=ModelSpec(model=self.model), weights=self.weights, preprocess="", data=self.selection,
            fingerprint=self.fingerprint, ids_digest="1d", n=self.n, attack=attack, version=self.version,
            threat=ThreatSpec(norm=self.norm, eps=list(self.statuses), grid=self.grid),
            question=self.question, goal=self.goal,
            order="ascending", seed=self.seed, chunk=self.n,
        )  # fmt: skip


def gated(
    folder: Path,
    *cells: Fate,
    gate: Sequence[Mapping[str, Any]] = (),
    study: str = "demo",
    unfit: Sequence[str] = (),
    verdicts: Sequence[Verdict] = (),
    versions: Mapping[str, str] | None = None,
) -> Run:  # shape: a directory as it may be
    """Write a finished run directory and open it."""
    store = Store(folder)
    for one in cells:
        store.write(Unit(one.cell, 0), pa.Table.from_pylist(list(_rows(one)), schema=SCHEMA))
    grids = [_grid(one) for one in cells]
    (folder / STUDY_FILE).write_text(
        write_yaml(Study.of({"study": study, **({"gate": list(gate)} if gate else {}), "grids": grids}).plain())
    )
    write_manifest(folder, {
        "schema": 1, "status": "success", "study": study, "command": "assay run",
        "cells": {one.cell.digest: one.cell.plain() for one in cells},
        "methods": {one.cell.digest: told_method(one.cell.plain()) for one in cells},
        "models": {
            one.model: {"digest": one.weights, "mean": [0.0], "std": [1.0], "classes": list(one.classes), **one.facts}
            for one in cells
        },
        "data": {one.cell.data.label: {"fingerprint": one.fingerprint, "n": one.n, "classes": None} for one in cells},
        "environment": {"python": "3.11.9", "torch": "2.14.0", "torchvision": "0.29.0", "assay": "0.1.0",
                        "platform": "Linux", "cpu": "2 cores", "threads": 1, **(versions or {})},
        "reportable": not unfit, "not_reportable_because": list(unfit), "started": "2026-11-30T10:00:00+00:00",
        "finished": "2026-11-30T10:01:00+00:00", "warnings": [],
    })  # fmt: skip
    keep_verdicts(folder, verdicts)
    return Run.open(folder)


def _grid(one: Fate) -> dict[str, Any]:
    plain = one.cell.plain()
    return {
        "models": [one.model], "data": [plain["specs"]["data"]],
        "question": one.question, "goal": one.goal, "seed": one.seed,
        "threats": [{"norm": one.norm, "eps": plain["eps"], "grid": one.grid}], "attacks": [plain["specs"]["attack"]],
    }  # fmt: skip


def _rows(one: Fate) -> Any:
    cell = one.cell
    for budget in cell.budgets:
        for i, status in enumerate(one.statuses[budget.written]):
            label = i % len(one.classes)
            wrong = (label + 1) % len(one.classes)
            yield {
                "schema": 3, "cell": cell.digest, "model": one.model, "data": cell.data.label,
                "attack": cell.attack.label,
                "threat": cell.threat.label, "eps": budget.value, "eps_written": budget.written, "unit": budget.unit,
                "question": one.question, "goal": one.goal, "seed": one.seed, "chunk": 0,
                "sample_id": f"{one.data}/{i:05d}", "label": label, "target": None,
                "clean_prediction": wrong if status == WRONG else label, "clean_confidence": 0.9, "clean_rank": 1,
                "prediction": label if status == LEFT else wrong, "confidence": 0.8, "rank": 1, "target_rank": None,
                "status": status, "stage": None, "size_linf": budget.value, "size_l2": 1.0, "size_l1": 1.0,
                "size_l0": 1.0, "forwards": 2, "backwards": 1, "queries": 2, "steps": 1, "seconds": 0.001,
                "from_eps": None, "error": "it failed" if status == ERROR else None,
            }  # fmt: skip


def verdict(one: Fate, written: str, said: str, *, broken: int = 0, why: str = "A check flags.") -> Verdict:
    """Return a verdict on the number of a cell at a budget."""
    cell, budget = one.cell, parse_budget(written)
    survived = sum(status == LEFT for status in one.statuses[written])
    n = sum(status != ERROR for status in one.statuses[written])
    return Verdict(
        cells={cell.digest: said}, model=one.model, data=cell.data.label, threat=cell.threat.label, unit=budget.unit,
        eps=budget.value, eps_written=written, goal=one.goal, preset="quick", seed=0, checks=1, verdict=said, why=why,
        n=n, survived=survived, asked=survived if broken else 0, broken=broken, as_first_measured=survived / n,
        after_escalation=(survived - broken) / n, findings=(), attempts=(), passes=1, escalation=0,
        evaluation_passes=1, per_check={}, seconds=0.0, curves={},
    )  # fmt: skip
