"""Pictures for the gallery: the most and the least changed successes and a survivor, per budget.

Of a few chosen images at one budget all are kept: they were chosen to be looked at.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from assay.core.problem import Problem
from assay.core.signals import apart
from assay.core.sweep import Curve
from assay.evaluation.records.builder import Columns
from assay.evaluation.records.schema import BROKEN, REJECTED, STATUSES, SURVIVED

PICTURED_CHUNKS = 2

FEW = 16
"""So many images, at one budget, are all kept."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image before and after: `original` float32 `[C, H, W]`, `perturbation` float16, logits float32 `[K]`.

    `clean_refused` and `refused` say whether the model refuses it, before and after.
    """

    sample_id: str
    label: int
    eps: float
    eps_written: str
    status: str
    size: float
    role: str
    original: Tensor
    perturbation: Tensor
    clean_logits: Tensor
    logits: Tensor
    clean_refused: bool = False
    refused: bool = False


_TENSORS = ("original", "perturbation", "clean_logits", "logits")


def choose(columns: Columns, at: Tensor, clean_logits: Tensor, problem: Problem, curve: Curve) -> list[Picture]:
    """Return the pictures of a unit: per budget, of the samples `at` (positions in the unit)."""
    pictures = []
    at = at.cpu()
    for i, budget in enumerate(columns.unit.cell.budgets):
        found = curve.found[i]
        before, after = apart(clean_logits, columns.rejects).logits, apart(found.logits, columns.rejects).logits
        status = torch.from_numpy(columns.rows["status"][i])[at]
        # a break inherited from a smaller budget has been shown there, unless there is nothing else to show
        broken = (status == STATUSES.index(BROKEN)).nonzero().squeeze(1)
        own = broken[(curve.origin[i].cpu() == i)[broken]]
        roles = _roles(own if len(own) else broken, status, found.size.cpu())
        if len(columns.unit.cell.budgets) == 1 and columns.unit.cell.n <= FEW:
            shown = {row for _, row in roles}
            roles += [("other", row) for row in range(len(at)) if row not in shown]
        for role, row in roles:
            position = int(at[row])
            pictures.append(
                Picture(
                    sample_id=columns.ids[position],
                    label=int(columns.samples["label"][position]),
                    eps=budget.value,
                    eps_written=budget.written,
                    status=STATUSES[int(status[row])],
                    size=float(columns.rows[f"size_{columns.unit.cell.threat.norm}"][i, position]),
                    role=role,
                    original=problem.x[row].float().cpu(),
                    perturbation=(found.x[row] - problem.x[row]).half().cpu(),
                    clean_logits=before[row].float().cpu(),
                    logits=after[row].float().cpu(),
                    clean_refused=bool(columns.samples["clean_refused"][position] == 1),
                    refused=bool(columns.rows["refused"][i, position] == 1),
                )
            )
    return pictures


def _roles(broken: Tensor, status: Tensor, size: Tensor) -> list[tuple[str, int]]:
    roles = []
    if len(broken):
        order = broken[size[broken].argsort(stable=True)]
        roles.append(("most", int(order[-1])))
        if len(order) > 1:
            roles.append(("least", int(order[0])))
    for role, wanted in (("survivor", SURVIVED), ("refused", REJECTED)):
        where = (status == STATUSES.index(wanted)).nonzero()
        if len(where):
            roles.append((role, int(where[0])))
    return roles


def encode(pictures: list[Picture]) -> bytes:
    """Return pictures as the bytes of a safetensors file."""
    plain = [field.name for field in dataclasses.fields(Picture) if field.name not in _TENSORS]
    rows = [{name: getattr(picture, name) for name in plain} for picture in pictures]
    tensors = {name: torch.stack([getattr(picture, name) for picture in pictures]).contiguous() for name in _TENSORS}
    return save(tensors, metadata={"rows": json.dumps(rows)})


def decode(path: Path) -> list[Picture]:
    """Return the pictures of a safetensors file; none where it is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            rows: list[dict[str, Any]] = json.loads(file.metadata()["rows"])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return []
    return [Picture(**row, **{name: tensors[name][i] for name in _TENSORS}) for i, row in enumerate(rows)]
