"""What was checked, and where the numbers come from."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.evaluation.asked import asked_lines
from assay.evaluation.study.goal_words import spoken
from assay.report import corruptions
from assay.report.groups import WORST_CASE, Group
from assay.vocabulary import UNATTACKED

if TYPE_CHECKING:
    from assay.evaluation.run import Run

GOOD, ATTENTION, PLAIN = "good", "attention", "plain"
_FAR_BELOW = 0.05  # a clean accuracy this far under the published one asks for an explanation

IDENTIFIERS = (
    ("MITRE ATLAS", "AML.T0043", "Craft Adversarial Data"),
    ("MITRE ATLAS", "AML.T0015", "Evade AI Model"),
    ("NIST AI 100-2", "NISTAML.022", "Evasion"),
    ("OWASP ML Top 10", "ML01:2023", "Input Manipulation Attack"),
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at: `state` is good, attention or plain."""

    state: str
    title: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A titled list of facts, each a name and a value."""

    title: str
    facts: tuple[tuple[str, str], ...]


def checks(run: Run, found: list[Group]) -> list[Check]:
    """Return what speaks for and against these numbers, the worst first."""
    rows = [
        *_fit_to_report(run),
        *_finished(run, found),
        *_errors(run),
        *_excluded(found),
        *_single(found, bool(_corrupted(run))),
    ]
    rows += [row for spec, model in run.manifest["models"].items() for row in _model(spec, model, found)]
    rows += [Check(ATTENTION, "Warning from the run", str(text)) for text in run.manifest.get("warnings", [])]
    return sorted(rows, key=lambda row: [ATTENTION, GOOD, PLAIN].index(row.state))


def sources(run: Run, found: list[Group]) -> list[Source]:
    """Return where the numbers come from: models, data, cells, machine."""
    manifest = run.manifest
    views = _corrupted(run)
    attacks = tuple((line.label, _cell(run, line.cell)) for group in found for line in group.lines)
    return [
        *[Source(f"Model {spec}", _facts(model, _MODEL)) for spec, model in manifest["models"].items()],
        *[
            Source(f"Data {name}", (*_facts(data, _DATA), *_selection(run, name)))
            for name, data in manifest["data"].items()
            if name not in views
        ],
        *([Source("Attacks", attacks)] if attacks else []),
        *[
            Source(
                f"Corruptions of {data}", (("drawn from", "sample id, corruption and severity"), ("cells", str(count)))
            )
            for data, count in Counter(views.values()).items()
        ],
        *[Source(f"Endpoint {model}", (("asked", counts),)) for model, counts in asked_lines(run.endpoints())],
        Source("Machine and versions", _facts(manifest["environment"], {})),
        Source("Time", _time(run, "attacking" if attacks else "looking")),
    ]


_MODEL = {
    "digest": "weights (blake2b)", "input_shape": "input", "mean": "mean", "std": "std", "preprocess": "preprocessing",
    "published_accuracy": "published accuracy", "access": "gives", "outputs": "outputs", "defenses": "defences",
    "threshold": "threshold",
    "notes": "notes",
}  # fmt: skip
_DATA = {"fingerprint": "fingerprint", "n": "samples", "ids_digest": "sample ids (digest)"}


def _facts(values: dict[str, Any], titles: dict[str, str]) -> tuple[tuple[str, str], ...]:
    names = titles or {name: name for name in values}
    return tuple((title, _text(values[name])) for name, title in names.items() if values.get(name) is not None)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items() if entry is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _corrupted(run: Run) -> dict[str, str]:
    """Return the data that are corruptions, each with what it is a corruption of."""
    cells = [cell for cell in run.manifest["cells"].values() if cell.get("attack") == UNATTACKED]
    if not cells:
        return {}
    # corruptions are drawn with torch; most runs have none
    from assay.evaluation.study.spec import DataSpec

    specs = [DataSpec.model_validate(cell["specs"]["data"]) for cell in cells]
    return {spec.label: spec.original for spec in specs if spec.label != spec.original}


def _cell(run: Run, cell: str | None) -> str:
    spec = run.manifest["cells"].get(cell, {})
    parts = [str(spec[name]).replace("_", " ") for name in ("question", "goal") if spec.get(name) is not None]
    parts += [f"{name} {spec[name]}" for name in ("seed", "chunk") if spec.get(name) is not None]
    return ", ".join([*parts, f"cell {cell}"])


def _time(run: Run, what: str) -> tuple[tuple[str, str], ...]:
    results = [*run.results(), *run.unattacked()]
    forwards, backwards = sum(result.forwards for result in results), sum(result.backwards for result in results)
    facts = [(name, _moment(run.manifest[name])) for name in ("started", "finished") if run.manifest.get(name)]
    return (
        *facts,
        (what, words.duration(sum(result.seconds for result in results))),
        ("passes", f"{words.count(forwards)} forward, {words.count(backwards)} backward"),
    )


def _selection(run: Run, source: str) -> list[tuple[str, str]]:
    """Return how the samples were chosen from their source: all of them where nothing is said."""
    for cell in run.manifest["cells"].values():
        spec = cell.get("specs", {}).get("data", {})
        if cell.get("data") == source:
            chosen = {
                name: value for name, value in spec.items() if name not in ("source", "ids") and value is not None
            }
            return [("selection", _text(chosen) if len(chosen) > 1 else "all")]
    return []


def _moment(written: Any) -> str:
    """Write a time stamp as people do: `2026-11-23 10:00:00 UTC`."""
    return str(written).replace("T", " ").replace("+00:00", " UTC")


def _fit_to_report(run: Run) -> list[Check]:
    reasons = run.manifest.get("not_reportable_because", [])
    if not reasons:
        return [Check(GOOD, "Reportable", "The whole study as planned, no sample left out by hand.")]
    return [Check(ATTENTION, "Not reportable", str(reason)) for reason in reasons]


def _finished(run: Run, found: list[Group]) -> list[Check]:
    if run.status == "success":
        done = "looked at, corrupted in every way" if _corrupted(run) and not found else "attacked at every budget"
        return [Check(GOOD, "Finished", f"Every planned image was {done}.")]
    return [Check(ATTENTION, "Not finished", f"The run's status is {run.status!r}: some numbers rest on fewer images.")]


def _errors(run: Run) -> list[Check]:
    by_cell = {result.cell: result.errors for result in (*run.results(), *run.unattacked())}
    errors = sum(by_cell.values())
    if not errors:
        return [Check(GOOD, "No errors", "Every image could be read and judged.")]
    return [Check(ATTENTION, words.plural(errors, "error"), "These images are in the records with their error text.")]


def _excluded(found: list[Group]) -> list[Check]:
    left_out = {spoken(group.goal): result.excluded for group in found if (result := group.first).excluded}
    return [
        Check(PLAIN, f"{words.plural(n, 'image')} left out", f"Their label is the target of {goal!r}: in no number.")
        for goal, n in left_out.items()
    ]


def _single(found: list[Group], corrupted: bool) -> list[Check]:
    lines = [line for group in found for line in group.lines if line.note]
    names = list(dict.fromkeys(line.label for line in lines if line.adaptive))
    rows = _unjudged(found, corrupted)
    ignoring = list(dict.fromkeys(line.label for line in lines if not line.adaptive))
    if ignoring:
        detail = f"{', '.join(ignoring)}: made on a model without the defence, which says nothing about its robustness."
        rows.append(Check(ATTENTION, "Not adaptive", detail))
    if names:
        detail = f"{', '.join(names)}: what this attack did at each budget, not what is left against any attack."
        rows.append(Check(PLAIN, words.ONE_ATTACK[0].upper() + words.ONE_ATTACK[1:], detail))
    return rows


def _unjudged(found: list[Group], corrupted: bool) -> list[Check]:
    """Say which numbers no audit has tested: all of them, or those of some models."""
    if corrupted and not found:
        return [Check(PLAIN, "No verdict", corruptions.MEANING)]
    lacking = [group for group in found if not _judged(group)]
    if found and not lacking:
        return []
    detail = (
        "The attacks themselves were not tested here: each accuracy is what they left, and a stronger attack may "
        "leave less."
    )
    where = ", ".join(f"{one.model} on {one.data}" for one in lacking)
    return [Check(PLAIN, "No verdict", detail if len(lacking) == len(found) else f"{where}: {detail}")]


def _judged(group: Group) -> bool:
    asked = [
        one
        for line in group.lines
        if line.question == WORST_CASE and line.adaptive
        for one in line.results
        if one.eps > 0
    ]
    return bool(asked) and all(one.verdict is not None for one in asked)


def _model(spec: str, model: dict[str, Any], found: list[Group]) -> list[Check]:
    rows = []
    if model.get("std") is None:
        detail = f"{spec}: mean and std are not known to Assay; it took the model to expect images in [0, 1]."
        rows.append(Check(PLAIN, "Preprocessing inside the model", detail))
    published = model.get("published_accuracy")
    mine = [group for group in found if group.model == spec]
    if published is not None and mine:
        low = mine[0].first.clean_high < published - _FAR_BELOW
        detail = (
            f"{spec}: {mine[0].clean} here on {words.plural(mine[0].n, 'image')}; published {100 * published:.1f} %."
        )
        rows.append(Check(ATTENTION if low else GOOD, "Clean accuracy against the published figure", detail))
    return rows
