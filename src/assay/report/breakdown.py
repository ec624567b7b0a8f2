"""What happened class by class, and what the images became."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report.groups import Group
from assay.report.headline import size_of

if TYPE_CHECKING:
    from assay.evaluation.run import Run

MOST_CLASSES = 20
_MOST_ROWS = 4000
_MOST_PAIRS = 12
_FEWEST_PER_CLASS = 3


@dataclasses.dataclass(frozen=True)
class Choice:
    """One attack at one budget: what a reader picks."""

    title: str
    cell: str
    eps: float


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Counts per class and per (true class, class after the attack), for each choice."""

    choices: tuple[Choice, ...]
    default: int
    classes: tuple[str, ...]
    per_class: tuple[dict[str, Any], ...]
    became: tuple[dict[str, Any], ...]
    all_classes: int

    @property
    def fits_a_grid(self) -> bool:
        """Whether the classes, and those that images became, are few enough for a grid."""
        return self.all_classes <= MOST_CLASSES and len({row["became"] for row in self.became}) <= MOST_CLASSES

    @property
    def has_shares(self) -> bool:
        """Whether classes hold enough images for an accuracy of their own."""
        sizes: list[int] = [row["n"] for row in self.per_class if row["choice"] == self.default]
        return sum(sizes) >= _FEWEST_PER_CLASS * len(sizes)

    def pairs(self) -> list[dict[str, Any]]:
        """Return the commonest mistakes of each choice: where there are too many classes for a grid."""
        ordered = sorted((row for row in self.became if not row["right"]), key=lambda row: -row["count"])
        return [row for place in range(len(self.choices)) for row in _first(ordered, place)]


def _first(rows: list[dict[str, Any]], choice: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["choice"] == choice][:_MOST_PAIRS]


def breakdown(run: Run, group: Group) -> Breakdown | None:
    """Count per class for every attack and budget of a group; None where no image could be attacked."""
    columns = ["cell", "eps", "label", "status", "prediction", *(["refused"] if group.rejects else [])]
    choices = _choices(group)
    if not choices:
        return None
    default = _default(group, choices)
    about = choices[default].cell, choices[default].eps
    # first those that choose the classes that are shown: of thousands of classes there are too many counts to keep
    labels = _shown(_counts(run, columns, {about}).get(about, []))
    every: set[int] = set()
    counts = _counts(run, columns, {(one.cell, one.eps) for one in choices}, labels, every)
    if not every:
        return None
    names = _names(run, group)
    known = [(place, row) for place, one in enumerate(choices) for row in counts.get((one.cell, one.eps), [])]
    per_class = _per_class(known, names)
    became = _became(known, names)
    if len(per_class) + len(became) > _MOST_ROWS:
        per_class = [row for row in per_class if row["choice"] == default]
        became = [row for row in became if row["choice"] == default]
        choices = [choices[default]]
        per_class, became = _renumber(per_class), _renumber(became)
        default = 0
    shown = tuple(name_of(names, label) for label in labels)
    return Breakdown(tuple(choices), default, shown, tuple(per_class), tuple(became), len(every))


REFUSED = "refused"
"""What an image became that the model refuses."""


def name_of(names: list[str] | None, label: int | None) -> str:
    """Return the name of a class, or its number where names are not known."""
    if label is None:
        return "no answer"
    return names[label] if names is not None and 0 <= label < len(names) else str(label)


def _names(run: Run, group: Group) -> list[str] | None:
    return class_names(run, group.model, group.data)


def class_names(run: Run, model: str, data: str) -> list[str] | None:
    """Return the class names of the model, else of the data; made distinct, since two classes may share one."""
    found = run.manifest["models"].get(model, {}).get("classes") or run.manifest["data"].get(data, {}).get("classes")
    if not found:
        return None
    names = [str(name) for name in found]
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names)]


def _counts(
    run: Run,
    columns: list[str],
    choices: set[tuple[str, float]],
    labels: list[int] | None = None,
    every: set[int] | None = None,
) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Count equal rows of these cells at these budgets; of `labels` alone, where given. `every` hears of all labels."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from assay.evaluation.records.schema import UNCOUNTED

    found: dict[tuple[str, float], dict[tuple[Any, ...], int]] = {}
    asked = {cell for cell, _ in choices}
    budgets = pa.array(sorted({eps for _, eps in choices}), pa.float64())
    for piece in run.pieces(columns, [cell for cell in run.cells if cell in asked]):
        keep = pc.and_(
            pc.is_in(piece["eps"], value_set=budgets),
            pc.invert(pc.is_in(piece["status"], value_set=pa.array(UNCOUNTED))),
        )
        mine = piece.filter(keep)
        if every is not None:
            every.update(label for label in mine["label"].unique().to_pylist() if label is not None)
        if labels is not None:
            mine = mine.filter(pc.is_in(mine["label"], value_set=pa.array(labels, pa.int64())))
        for row in mine.group_by(columns, use_threads=False).aggregate([([], "count_all")]).to_pylist():
            about = row["cell"], row["eps"]
            if about in choices:
                counts = found.setdefault(about, {})
                key = tuple(row[name] for name in columns)
                counts[key] = counts.get(key, 0) + row["count_all"]
    return {
        about: [{**dict(zip(columns, key, strict=True)), "count_all": many} for key, many in counts.items()]
        for about, counts in found.items()
    }


def _choices(group: Group) -> list[Choice]:
    return [
        Choice(
            f"{line.label}, {words.bare(result.eps_written)} ({size_of(group, result)})", line.cell or "", result.eps
        )
        for line in group.lines
        for result in line.results
        if result.eps > 0
    ]


def _default(group: Group, choices: list[Choice]) -> int:
    """Return the choice that tells classes apart best: about half of the accuracy left, by the strongest attack."""

    whole = group.first.clean_accuracy

    def dullness(choice: Choice) -> tuple[float, float]:
        line = next(line for line in group.lines if line.cell == choice.cell)
        left = next(result.robust_accuracy for result in line.results if result.eps == choice.eps)
        return abs(left - (1.0 if words.missing(whole) else whole) / 2), left

    return min(range(len(choices)), key=lambda at: dullness(choices[at]), default=0)


def _shown(rows: list[dict[str, Any]]) -> list[int]:
    """Return the labels to show, in their order: all, or those that lost most where there are too many."""
    lost: dict[int, int] = {}
    for row in rows:
        lost[row["label"]] = lost.get(row["label"], 0) + (row["count_all"] if row["status"] == "broken" else 0)
    return sorted(sorted(lost, key=lambda label: (-lost[label], label))[:MOST_CLASSES])


def _per_class(rows: list[tuple[int, dict[str, Any]]], names: list[str] | None) -> list[dict[str, Any]]:
    from assay.evaluation.records.schema import SURVIVED, UNBROKEN

    sums: dict[tuple[int, int], dict[str, int]] = {}
    for place, row in rows:
        seen = sums.setdefault((place, row["label"]), {"n": 0, "survived": 0, "broken": 0})
        seen["n"] += row["count_all"]
        # an attacked image that is refused is not lost
        status = SURVIVED if row["status"] in UNBROKEN else row["status"]
        if status in seen:
            seen[status] += row["count_all"]
    return [
        {
            "choice": place, "class": name_of(names, label), "n": seen["n"],
            "clean": (seen["survived"] + seen["broken"]) / seen["n"], "kept": seen["survived"] / seen["n"],
            "counts": f"{seen['survived']} of {seen['n']} right after, {seen['survived'] + seen['broken']} before",
        }
        for (place, label), seen in sums.items()
    ]  # fmt: skip


def _became(rows: list[tuple[int, dict[str, Any]]], names: list[str] | None) -> list[dict[str, Any]]:
    sums: dict[tuple[int, int, int | str], int] = {}
    totals: dict[tuple[int, int], int] = {}
    for place, row in rows:
        if row["prediction"] is None:
            continue
        key = (place, row["label"], REFUSED if row.get("refused") else row["prediction"])
        sums[key] = sums.get(key, 0) + row["count_all"]
        totals[key[:2]] = totals.get(key[:2], 0) + row["count_all"]
    return [
        {
            "choice": place, "true": name_of(names, label), "count": many,
            "became": after if isinstance(after, str) else name_of(names, after),
            "share": many / totals[place, label], "right": label == after,
            "of": totals[place, label],
        }
        for (place, label, after), many in sums.items()
    ]  # fmt: skip


def _renumber(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "choice": 0} for row in rows]
