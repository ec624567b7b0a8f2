"""Run directories of any size that never ran: what chance makes of cells, written as the runner writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.evaluation.cell import Cell, Unit
from assay.evaluation.methods import told_method
from assay.evaluation.records.manifest import write_manifest
from assay.evaluation.records.schema import SCHEMA, STATUSES
from assay.evaluation.records.store import Store
from assay.evaluation.study.spec import AttackSpec, DataSpec, ModelSpec, ThreatSpec

_NO_FACTS = {"mean": None, "std": None, "input_shape": None, "preprocess": None, "classes": None}


def cells_of(count: int, *, n: int, budgets: int = 10, chunk: int = 128, models: int = 1) -> list[Cell]:
    """Return so many cells of `n` samples, spread over `models`; those of one model differ in the attack's steps."""
    threat = ThreatSpec.model_validate({"norm": "linf", "eps": [f"{step}/255" for step in range(1, budgets + 1)]})
    return [
        Cell(
            model=ModelSpec(model=f"m{at % models}.pt"), weights=f"w{at % models}", preprocess="null",
            data=DataSpec(source="d"), fingerprint="f", ids_digest="i", n=n,
            attack=AttackSpec.model_validate({"attack": "pgd", "steps": 10 + at // models, "restarts": 1}), version=1,
            threat=threat, question="worst_case", goal="untargeted", order="ascending", seed=0, chunk=chunk,
        )
        for at in range(count)
    ]  # fmt: skip


def unit_table(unit: Unit, seed: int = 0) -> pa.Table:
    """Return the records of a unit, as chance (of its cell and chunk) has it."""
    cell, positions, b = unit.cell, unit.cell.positions(unit.chunk), len(unit.cell.budgets)
    n, rows = len(positions), unit.rows
    # what a sample is like depends on the sample; how it ends, on the attack too
    rng = np.random.default_rng([seed, unit.chunk, int(cell.digest[1:9], 16)])
    wrong, error = rng.random(n) < 0.05, rng.random(n) < 0.001
    need = rng.integers(1, 2 * b + 2, n)
    budget = np.arange(1, b + 1)[:, None]
    status = np.where(need <= budget, STATUSES.index("broken"), STATUSES.index("survived"))
    status = np.where(wrong, STATUSES.index("clean_wrong"), np.where(error, STATUSES.index("error"), status))
    broken = status == STATUSES.index("broken")
    eps = np.repeat([one.value for one in cell.budgets], n)
    size = (eps * (1 - 0.3 * rng.random(rows) ** 3)).astype(np.float32)
    label = np.asarray(positions) % 10
    prediction = np.where(broken | wrong, (label + 1 + rng.integers(0, 9, n)) % 10, label)
    failed = np.tile(error, b)
    told = {
        "schema": 3, "cell": cell.digest, "model": cell.model.label, "data": cell.data.label,
        "attack": cell.attack.label, "threat": cell.threat.label, "unit": cell.unit, "question": cell.question,
        "goal": cell.goal, "seed": cell.seed, "chunk": unit.chunk,
    }  # fmt: skip
    forwards = rng.integers(1, 4 * cell.attack.options["steps"], rows)
    columns: dict[str, Any] = {
        **{name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), rows) for name, value in told.items()},
        "eps": eps,
        "eps_written": np.repeat([one.written for one in cell.budgets], n),
        "sample_id": [f"imagenet/val/ILSVRC2012_val_{at:08d}.JPEG" for at in positions] * b,
        "label": np.tile(label, b),
        "clean_prediction": np.tile(np.where(wrong, label + 1, label), b),
        "clean_confidence": np.tile(rng.random(n).astype(np.float32), b),
        "clean_rank": np.tile(np.where(wrong, 2, 1), b),
        "prediction": pa.array(prediction.ravel(), mask=failed),
        "confidence": pa.array(rng.random(rows).astype(np.float32), mask=failed),
        "rank": pa.array(np.where(broken | wrong, rng.integers(2, 9, n), 1).ravel().astype(np.int32), mask=failed),
        "status": pa.array(STATUSES).take(pa.array(status.ravel())),
        "size_linf": pa.array(size, mask=failed),
        **{f"size_{name}": pa.array((size * k).astype(np.float32), mask=failed) for name, k in _OTHERS.items()},
        "forwards": forwards, "backwards": forwards - 1, "queries": forwards,
        "steps": rng.integers(1, cell.attack.options["steps"] + 1, rows),
        "seconds": np.full(rows, float(rng.random()) / rows),
        "error": pa.array(np.where(failed, "unreadable", None).tolist(), pa.string()),
        "image_digest": [f"{at:016x}" for at in positions] * b,
        "form": pa.repeat(pa.scalar("float32, channels last"), rows),
    }  # fmt: skip
    made = {
        field.name: pa.array(columns[field.name], field.type)
        if field.name in columns and not isinstance(columns[field.name], pa.Array)
        else columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in SCHEMA
    }
    return pa.table(made, schema=SCHEMA)


_OTHERS = {"l2": 300.0, "l1": 9e4, "l0": 1e5}


def write_manifest_of(folder: Path, cells: list[Cell]) -> None:
    """Write what a finished run of some cells says of itself."""
    models = {cell.model.label: {"digest": cell.weights, **_NO_FACTS} for cell in cells}
    data = {"fingerprint": "f", "n": max(cell.n for cell in cells), "ids_digest": "i", "classes": None}
    write_manifest(folder, {
        "schema": 1, "study": "many", "status": "success", "command": "", "models": models, "data": {"d": data},
        "cells": {cell.digest: cell.plain() for cell in cells},
        "methods": {cell.digest: told_method(cell.plain()) for cell in cells}, "environment": {}, "reportable": True,
        "not_reportable_because": [], "started": "", "finished": "", "warnings": [],
    })  # fmt: skip


def many_records(folder: Path, cells: list[Cell], *, seed: int = 0) -> Store:
    """Write all records of some cells, and the manifest of their run; return the store."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    for cell in cells:
        for chunk in range(cell.chunks):
            unit = Unit(cell, chunk)
            store.write(unit, unit_table(unit, seed))
    write_manifest_of(folder, cells)
    return store


__all__ = ["cells_of", "dataclasses", "many_records", "unit_table", "write_manifest_of"]
