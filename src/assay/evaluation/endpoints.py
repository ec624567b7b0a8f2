"""What a study asks of endpoints at most, by its plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.core.compose.confirmed import ANSWERS
from assay.core.errors import BadInput
from assay.core.result import Keeps
from assay.evaluation.asked import Budget, budgets
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample, queries_per_image
from assay.models import Classifier
from assay.models.remote.ledger import Ledger
from assay.spending import Spent


def endpoint_facts(model: Classifier) -> list[dict[str, Any]]:
    """Return what a manifest says of the endpoints that a model asks, without secrets; none for most models.

    `copies` is how many rows a look at one image asks about: a defence in front may show the endpoint several.
    """
    return [
        {
            "identity": one.client.identity,
            "host": one.client.host,
            "random": model.random or one.random,
            "copies": model.passes.forwards,
            **{
                field.name: value
                for field in dataclasses.fields(one.client.limits)
                if (value := getattr(one.client.limits, field.name)) is not None
            },
        }
        for one in model.endpoints
    ]


@dataclasses.dataclass(frozen=True)
class Demand:
    """What is left of a plan asks of an endpoint at most: rows and requests; `seconds` where that is known.

    Rows that were answered before, and samples that are broken early, make it less. `budget` is what is allowed of it.
    """

    rows: int
    requests: int
    seconds: float | None
    budget: Budget

    @property
    def cost(self) -> float:
        """What the rows cost at most."""
        return self.budget.price * self.rows

    @property
    def too_much(self) -> bool:
        """Whether it may be more than what is left."""
        return self.budget.left is not None and self.rows > self.budget.left


def demands(
    units: Iterable[Unit],
    models: Mapping[str, Mapping[str, Any]],
    spent: Mapping[tuple[str, str], Spent] | None = None,
    request_seconds: Mapping[str, float] | None = None,
) -> list[Demand]:
    """Return what `units` ask of the endpoints of their models at most, one each.

    `request_seconds` are those that one request took, by model label.
    """
    asked: dict[str, list[Unit]] = {}
    for unit in units:
        if models.get(unit.cell.model.label, {}).get("endpoints"):
            asked.setdefault(unit.cell.model.label, []).append(unit)
    found = []
    each: dict[str, int] = {}
    for label, own in asked.items():
        for facts, budget in zip(models[label]["endpoints"], budgets({label: models[label]}, spent or {}), strict=True):
            rows = requests = 0
            for unit in own:
                looks = each.setdefault(unit.cell.digest, looks_per_sample(unit.cell, random=facts["random"]))
                # a defence may show the copies one after the other
                n, copies = len(unit.cell.positions(unit.chunk)), looks * facts["copies"]
                rows += copies * n
                requests += copies * math.ceil(n / facts["batch"])
            seconds = _seconds(requests, facts, (request_seconds or {}).get(label))
            found.append(Demand(rows, requests, seconds, budget))
    return found


def _seconds(requests: int, facts: Mapping[str, Any], one: float | None) -> float | None:
    by_rate = requests / facts["per_second"] if facts.get("per_second") else None
    by_time = None if one is None else requests * one / facts["parallel"]
    return max((value for value in (by_rate, by_time) if value is not None), default=None)


def looks_per_sample(cell: Cell, *, random: bool = False) -> int:
    """Return how many looks at the model a sample of a cell costs at most; those at its surrogate are free."""
    budgets = sum(budget.value > 0 for budget in cell.budgets)
    if cell.certificate is None and cell.attack.options.get("surrogate"):
        smallest = Experiment.of(cell, Loader()).method().keeps is Keeps.SMALLEST
        each = queries_per_image(cell)
        looks = 1 + int(cell.goal == "targeted least-likely") + each * (min(budgets, 1) if smallest else budgets)
    else:
        looks = passes_per_sample(cell).forwards
    # of a random model the image and what is found are asked about several times
    return looks + ((ANSWERS - 1) + ANSWERS * budgets if random and cell.certificate is None else 0)


def check_unchanged(units: Sequence[Unit], loader: Loader, ledger: Ledger) -> None:
    """Ask endpoints a few rows again that they have answered before, and refuse those that answer otherwise.

    Raises `BadInput`: half of such a run would be of another model.
    """
    for cell in {unit.cell.model.label: unit.cell for unit in units}.values() if ledger.earlier else ():
        for endpoint in loader.model(cell.model).endpoints:
            if endpoint.client.identity not in ledger.earlier:
                continue
            # once is enough
            ledger.earlier -= {endpoint.client.identity}
            if how := endpoint.recheck():
                raise BadInput(
                    f"{endpoint.client.host} answers otherwise than earlier in this run: {how}, for a row that was "
                    "asked then. Its model has changed, or its answers are random. Name the old version "
                    "(version=…), begin a new run (--out), or say that answers are drawn (random=yes)."
                )


__all__ = ["Demand", "check_unchanged", "demands", "endpoint_facts", "looks_per_sample"]
