"""What is compared: a run directory, or a baseline file made of one, sample by sample."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.core.budget import parse_budget
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.schema import BROKEN, ERROR, EXCLUDED, STATUSES, UNBROKEN, WRONG_BEFORE
from assay.evaluation.records.verdicts import REFUTED, SUSPECT
from assay.evaluation.run import GRADIENT
from assay.vocabulary import UNATTACKED
from assay.wording import percent

if TYPE_CHECKING:
    from assay.evaluation.run import Run

LEFT_OUT, WRONG, FELL, UNKNOWN, LEFT = range(5)
"""What became of a sample: outside of the goal, wrong before any attack, broken, an error, still right or refused.

Of several attacks on it the smallest of these holds; an error is no survival.
"""

_STATES = {**dict.fromkeys(WRONG_BEFORE, WRONG), **dict.fromkeys(UNBROKEN, LEFT), EXCLUDED: LEFT_OUT, BROKEN: FELL,
           ERROR: UNKNOWN}  # fmt: skip
_BY_STATUS = np.array([_STATES[status] for status in STATUSES], np.uint8)
_COLUMNS = ("eps", "sample_id", "label", "status")

Key = tuple[str, str, str, str, float, str, str]


class Number(NamedTuple):
    """One attack on one model at one budget: what the run has a number of. `version` is that of the attack."""

    cell: str
    model: str
    data: str
    attack: str
    threat: str
    unit: str
    eps: float
    eps_written: str
    question: str
    goal: str
    seed: int
    version: int | None

    @property
    def key(self) -> Key:
        """What it shares with other attacks on the same."""
        return self.model, self.data, self.threat, self.unit, self.eps, self.question, self.goal


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What became of each sample, in the order of their ids: `states` are `LEFT_OUT` to `LEFT`.

    `samples` names the ids. A baseline file has no ids and labels: it counts the same samples, or none.
    """

    samples: str
    states: NDArray[np.uint8]
    ids: NDArray[Any] | None = None
    labels: NDArray[np.int64] | None = None

    @staticmethod
    def of(ids: NDArray[Any], states: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> Outcomes:
        """Return outcomes of samples in any order."""
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        return Outcomes(digest_of(ids), states[order], ids, None if labels is None else labels[order])

    def worst(self, other: Outcomes) -> Outcomes:
        """Return the worst of two attacks, sample by sample; samples that not both have met are left out."""
        if self.samples == other.samples:
            return dataclasses.replace(self, states=np.minimum(self.states, other.states))
        assert self.ids is not None, "a baseline file is made of finished cells"
        assert other.ids is not None, "a baseline file is made of finished cells"
        ids, mine, theirs = np.intersect1d(self.ids, other.ids, assume_unique=True, return_indices=True)
        labels = None if self.labels is None else self.labels[mine]
        return Outcomes(digest_of(ids), np.minimum(self.states[mine], other.states[theirs]), ids, labels)


def digest_of(ids: Sequence[str] | NDArray[Any]) -> str:
    """Return a name for sample ids, which are in order."""
    return hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()


@dataclasses.dataclass(frozen=True)
class Side:
    """A run or a baseline: its numbers, what they were measured on and with, and the outcomes of each.

    `models` and `data` hold digests by label, `unfit` says why its numbers may not be reported. `classes` are the
    names of the classes, per model and data set, where they are known, `doubts` say which numbers are less than they
    look; a baseline file knows of none.
    """

    name: str
    study: str
    finished: str
    models: Mapping[str, str]
    data: Mapping[str, str]
    versions: Mapping[str, Any]
    numbers: tuple[Number, ...]
    unfit: tuple[str, ...]
    read: Callable[[str], Mapping[float, Outcomes]]
    classes: Callable[[str, str], list[str] | None] = lambda model, data: None
    doubts: Callable[[], tuple[str, ...]] = tuple
    _known: dict[str, Mapping[float, Outcomes]] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def outcomes(self, numbers: Iterable[Number]) -> Outcomes | None:
        """Return the worst case over some numbers, sample by sample; None where there are no records."""
        worst: Outcomes | None = None
        for one in numbers:
            if one.cell not in self._known:
                self._known[one.cell] = self.read(one.cell)
            found = self._known[one.cell].get(one.eps)
            if found is None:
                return None
            worst = found if worst is None else worst.worst(found)
        return worst


def side_of(run: Run) -> Side:
    """Return a run as a side. Its numbers are of its attacked cells; records are read when they are asked for."""
    from assay.report.breakdown import class_names

    manifest = run.manifest

    def read(cell: str) -> dict[float, Outcomes]:
        return _outcomes(run.store.read([cell], _COLUMNS))

    environment = manifest.get("environment", {})
    return Side(
        str(run.path), run.study, str(manifest.get("finished") or ""),
        {label: str(facts.get("digest", "")) for label, facts in manifest["models"].items()},
        {label: str(facts.get("fingerprint", "")) for label, facts in manifest["data"].items()},
        {name: environment.get(name) for name in ("assay", "torch", "torchvision", "python")},
        tuple(_numbers(run.cells)), tuple(run.reservations()), read, lambda model, data: class_names(run, model, data),
        lambda: tuple(_doubts(run)),
    )  # fmt: skip


def _doubts(run: Run) -> Iterator[str]:
    for one in run.verdicts():
        about = f"{one.model} on {one.data}, {one.threat} {one.eps_written}"
        if one.verdict == REFUTED:
            left = percent(one.after_escalation, one.n, " ")
            yield f"{about}: refuted, stronger attacks left at most {left}; the records here are from before them"
        elif one.verdict == SUSPECT:
            yield f"{about}: suspect, {one.why}"
    for name, facts in run.manifest["models"].items():
        access = str(facts.get("access", GRADIENT))
        if access != GRADIENT:
            yield f"{name} gives {access} alone: its numbers say what was not broken by asking"


def _numbers(cells: Mapping[str, Mapping[str, Any]]) -> Iterable[Number]:
    for digest, cell in cells.items():
        if cell["specs"]["attack"]["attack"] == UNATTACKED:
            continue
        about = (cell["model"], cell["data"], cell["attack"], cell["threat"])
        for written in cell["eps"]:
            budget = parse_budget(written)
            how = (cell["question"], cell["goal"], int(cell["seed"]), cell.get("version"))
            yield Number(digest, *about, budget.unit, budget.value, budget.written, *how)


def _outcomes(records: pa.Table) -> dict[float, Outcomes]:
    states = _BY_STATUS[pc.index_in(records["status"], pa.array(STATUSES)).to_numpy()]
    eps, ids = records["eps"].to_numpy(), records["sample_id"].to_numpy().astype(str)
    labels = records["label"].to_numpy()
    found = {}
    for value in np.unique(eps):
        mine = eps == value
        found[float(value)] = Outcomes.of(ids[mine], states[mine], labels[mine])
    return found


__all__ = ["FELL", "LEFT", "LEFT_OUT", "UNKNOWN", "WRONG", "Key", "Number", "Outcomes", "Side", "digest_of", "side_of"]
