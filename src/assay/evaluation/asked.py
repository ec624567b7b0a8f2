"""What endpoints were asked so far, by the ledger in a run directory, and what is allowed of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from assay.spending import Limits, Spent, allowed
from assay.wording import plural, queries


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
    names = [field.name for field in dataclasses.fields(Limits)]
    return allowed(Limits(**{name: facts[name] for name in names if name in facts}))


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
