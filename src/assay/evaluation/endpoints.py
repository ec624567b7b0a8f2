"""What a study asks of endpoints: at most, by its plan; and so far, by the ledger in its run directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.compose.confirmed import ANSWERS
from assay.core.errors import BadInput
from assay.core.result import Keeps
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample, queries_per_image
from assay.models import Classifier
from assay.models.remote.ledger import FILE, FOLDER, Ledger, Spent, allowed
from assay.wording import plural, queries


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
class Budget:
    """What is allowed of an endpoint, and what of it is spent: rows that it answered, and money.

    `queries` and `most_cost` are None where nothing limits them, `price` is that of a row in `currency`.
    """

    model: str
    host: str
    spent: Spent
    queries: int | None = None
    price: float = 0.0
    currency: str = ""
    most_cost: float | None = None

    @property
    def left(self) -> int | None:
        """How many more rows may be billed; None where nothing limits them."""
        return None if self.queries is None else max(0, self.queries - self.spent.billed)

    @property
    def cost(self) -> float:
        """What was spent, in `currency`."""
        return self.price * self.spent.billed

    @property
    def written(self) -> str:
        """Write it in few words: `1,200 of 5,000 queries (0.72 of 3 USD)`."""
        if self.queries is None:
            counted = queries(self.spent.billed)
        else:
            counted = f"{self.spent.billed:,} of {queries(self.queries)}"
        if not self.price:
            return counted
        most = f" of {self.most_cost:g}" if self.most_cost is not None else ""
        return f"{counted} ({self.cost:.4g}{most} {self.currency}".rstrip() + ")"


def budgets(models: Mapping[str, Mapping[str, Any]], spent: Mapping[tuple[str, str], Spent]) -> list[Budget]:
    """Return what is spent of the endpoints that a manifest's `models` ask, one each."""
    found: dict[str, Budget] = {}
    for label, facts in models.items():
        for one in facts.get("endpoints", ()):
            whole = Spent()
            for (endpoint, _), part in spent.items():
                whole = whole.plus(part) if endpoint == one["identity"] else whole
            told = (one.get("price", 0.0), one.get("currency", ""), one.get("budget"))
            found.setdefault(one["identity"], Budget(label, one["host"], whole, _allowed(one), *told))
    return list(found.values())


def _allowed(facts: Mapping[str, Any]) -> int | None:
    from assay.models.remote.client import Limits

    names = [field.name for field in dataclasses.fields(Limits)]
    return allowed(Limits(**{name: facts[name] for name in names if name in facts}))


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


def spent_in(folder: Path) -> dict[tuple[str, str], Spent]:
    """Return what a run directory's endpoints were asked, by endpoint and what for; nothing where there are none."""
    if not (folder / FOLDER / FILE).is_file():
        return {}
    ledger = Ledger()
    ledger.look_behind(folder)
    try:
        return ledger.spent_behind()
    finally:
        ledger.close()


def asked_lines(endpoints: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return what `Run.endpoints` says in words: pairs of a model and its counts."""
    found = []
    for one in endpoints:
        spent = Spent(*(one[field.name] for field in dataclasses.fields(Spent)))
        price = (one["cost"] or 0.0) / spent.billed if spent.billed else 0.0
        whole = Budget(one["model"], one["host"], spent, one["queries_allowed"], price, one["currency"] or "")
        retried = f", {spent.retries:,} {'retry' if spent.retries == 1 else 'retries'}" if spent.retries else ""
        found.append(
            (
                one["model"],
                f"{whole.written} for {plural(spent.asked, 'row')} asked about, "
                f"{plural(spent.requests, 'request')}{retried}",
            )
        )
    return found


def plain(models: Mapping[str, Mapping[str, Any]], spent: Mapping[tuple[str, str], Spent]) -> list[dict[str, Any]]:
    """Return what was asked of each endpoint as plain values, in all and by what for (`places`)."""
    return list(_plain(models, spent))


def _plain(models: Mapping[str, Mapping[str, Any]], spent: Mapping[tuple[str, str], Spent]) -> Iterator[dict[str, Any]]:
    identities = {one["identity"]: one for facts in models.values() for one in facts.get("endpoints", ())}
    for budget, identity in zip(budgets(models, spent), identities, strict=True):
        yield {
            "model": budget.model,
            "host": budget.host,
            **dataclasses.asdict(budget.spent),
            "queries_allowed": budget.queries,
            "cost": budget.cost if budget.price else None,
            "currency": budget.currency or None,
            "places": {
                name: dataclasses.asdict(one) for (endpoint, name), one in sorted(spent.items()) if endpoint == identity
            },
        }


__all__ = ["Budget", "Demand", "asked_lines", "budgets", "check_unchanged", "demands", "endpoint_facts",
           "looks_per_sample", "plain", "spent_in"]  # fmt: skip
