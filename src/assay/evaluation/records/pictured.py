"""Which pictures the gallery keeps: the most and the least changed successes and a survivor, per budget.

Of a few chosen images at one budget all are kept: they were chosen to be looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.problem import Problem
from assay.core.signals import apart
from assay.core.sweep import Curve
from assay.evaluation.records.builder import Columns
from assay.evaluation.records.gallery import Picture
from assay.evaluation.records.schema import BROKEN, REJECTED, STATUSES, SURVIVED

FEW = 16
"""So many images, at one budget, are all kept."""


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
