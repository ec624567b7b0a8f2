"""The page: one HTML file that holds everything it shows and loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.report import brackets, charts, corruptions, pairs, verdicts
from assay.report.breakdown import Breakdown, breakdown
from assay.report.effort import chart as drawn
from assay.report.effort import curves_of
from assay.report.evidence import Evidence, evidence
from assay.report.formats import csv
from assay.report.gallery import Bands, shelves, write_pictures
from assay.report.groups import Group, groups
from assay.report.headline import Headline, headline, size_of, spotlight, telling
from assay.report.html import Chart, chart, data_uri, environment, sealed
from assay.report.provenance import IDENTIFIERS, checks, sources
from assay.report.tables import notes, passes

if TYPE_CHECKING:
    from assay.evaluation.analysis.brackets import BracketTable
    from assay.evaluation.analysis.corruptions import CorruptionTable
    from assay.evaluation.analysis.pairs import PairTable
    from assay.evaluation.analysis.query_curves import Effort, Stage
    from assay.evaluation.run import Run

_MOST_PICTURE_BYTES = 8_000_000
_PICTURES = "pictures"


@dataclasses.dataclass(frozen=True)
class Part:
    """A group with everything the page says about it."""

    name: str
    group: Group
    headline: Headline
    steps: tuple[tuple[str, float, float, float, str], ...]
    curve: Chart
    legend: list[dict[str, str]]
    notes: list[str]
    effort: Chart | None
    breakdown: Breakdown | None
    per_class: Chart | None
    confusion: Chart | None
    evidence: tuple[Evidence, ...]

    def judged(self, eps: float | None) -> Evidence | None:
        """Return the evidence for the verdict at a budget."""
        return next((one for one in self.evidence if one.verdict.eps == eps), None)

    @property
    def refuted(self) -> bool:
        """Whether the curve shows numbers after escalation."""
        return bool(charts.refuted(self.group))

    @property
    def strict(self) -> bool:
        """Whether the curve shows the strict robust accuracy too."""
        return bool(charts.strict(self.group))

    @property
    def marks(self) -> dict[str, tuple[str, str]]:
        """The badges beside the headline's bars, by the bar's name: the verdict, and where its evidence is."""
        found = {}
        for kept in self.evidence:
            lowest = self.group.lowest(kept.verdict.eps)
            if lowest is not None and lowest[1].verdict is not None:
                found[size_of(self.group, lowest[1])] = (lowest[1].verdict, kept.name)
        return found


@dataclasses.dataclass(frozen=True)
class CorruptedPart:
    """A table of corruptions with what the page shows of it."""

    table: CorruptionTable
    chart: Chart
    rows: list[corruptions.Row]


@dataclasses.dataclass(frozen=True)
class BracketPart:
    """A table of brackets with its chart."""

    table: BracketTable
    chart: Chart


@dataclasses.dataclass(frozen=True)
class JudgedPart:
    """A pair of a model and its judge with its chart; notes stand below the last table of a pair."""

    table: PairTable
    chart: Chart
    notes: list[str]


def page(run: Run, path: str | Path, bands: Bands = None) -> Path:
    """Write the run's page to `path`, and its pictures as PNG files under the run directory's `pictures`.

    The file works from `file://`, without a network. Of images of many channels pictures show `bands`: one, or three
    as red, green and blue. Raises `OSError` where `path` cannot be written, `BadInput` for bands that are not there.
    """
    found = groups(run)
    gallery = shelves(run, found, _MOST_PICTURE_BYTES, bands)
    kept = _keep_pictures(gallery, Path(run.path) / _PICTURES)
    facts = _Facts(run.efforts("queries"), run.stages(), bands)
    parts = [_part(run, place, group, facts) for place, group in enumerate(found)]
    corrupted = [_corrupted(place, table) for place, table in enumerate(run.corruptions())]
    bounded = [_bounded(place, table) for place, table in enumerate(run.brackets())]
    names = {"passes": passes, "told": verdicts.told, "refusals": verdicts.refusals, "corruptions": corruptions}
    paired = [_judged(place, *told) for place, told in enumerate(pairs.with_notes(run.pairs()))]
    names.update(brackets=brackets, pairs=pairs)
    html = environment(**names).get_template("page.html").render(
        run=run, parts=parts, corrupted=corrupted, bounded=bounded, paired=paired, shelves=gallery,
        pictures_in=_PICTURES if kept else None,
        checks=checks(run, found), sources=sources(run, found), identifiers=IDENTIFIERS, when=_day(run),
        csv=data_uri("text/csv", csv(run)), charts=_charts(parts, [*bounded, *paired, *corrupted]),
        sealed=sealed(),
    )  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")
    return path


def _bounded(place: int, table: BracketTable) -> BracketPart:
    about = f"Certified and robust accuracy against eps: {brackets.title(table)}"
    return BracketPart(table, chart(f"bracket-{place}", about, brackets.curve(table)))


def _judged(place: int, table: PairTable, notes: list[str]) -> JudgedPart:
    about = f"Accuracy of model and judge against eps: {pairs.title(table)}"
    return JudgedPart(table, chart(f"pair-{place}", about, pairs.curve(table)), notes)


def _corrupted(place: int, table: CorruptionTable) -> CorruptedPart:
    about = f"Accuracy by corruption and severity: {corruptions.title(table)}"
    return CorruptedPart(
        table, chart(f"corruptions-{place}", about, corruptions.heat_map(table)), corruptions.rows(table)
    )


def _charts(parts: list[Part], others: Sequence[BracketPart | CorruptedPart | JudgedPart]) -> list[Chart]:
    drawn = [one for part in parts for one in (part.curve, part.effort, part.per_class, part.confusion) if one]
    drawn += [one.chart for one in others]
    return [*drawn, *(one for part in parts for kept in part.evidence for _, one in kept.charts)]


def _keep_pictures(gallery: list[Any], directory: Path) -> bool:
    """Write the picture files; a run directory that takes none is no reason to go without the page."""
    try:
        return write_pictures(gallery, directory) > 0
    except OSError:
        return False


@dataclasses.dataclass(frozen=True)
class _Facts:
    # read once for all groups
    queries: list[Effort]
    stages: list[Stage]
    bands: Bands


def _part(run: Run, place: int, group: Group, facts: _Facts) -> Part:
    found = breakdown(run, group)
    title = f"{group.model} on {group.data}"
    budget = spotlight(group)
    spent = curves_of(facts.queries, group, budget.eps)
    per_class = charts.per_class(found) if found and found.has_shares else None
    became = charts.confusion(found) if found and found.fits_a_grid else None
    return Part(
        f"group-{place}", group, headline(group), _steps(group),
        chart(f"curve-{place}", f"Accuracy against eps: {title}", charts.curve(group)), charts.legend(group),
        notes(group, facts.stages),
        chart(f"effort-{place}", f"Accuracy against queries, {size_of(group, budget)}: {title}", drawn(spent, group))
        if spent else None,
        found,
        chart(f"classes-{place}", f"Accuracy per class: {title}", per_class) if per_class else None,
        chart(f"became-{place}", f"What images became: {title}", became) if became else None,
        evidence(run, group, place, facts.bands),
    )  # fmt: skip


def _steps(group: Group) -> tuple[tuple[str, float, float, float, str], ...]:
    """Return the headline as bars: (name, accuracy, low, high, text) before, at the spotlight and at the largest."""
    first = group.first
    steps = [("no change", first.clean_accuracy, first.clean_low, first.clean_high, group.clean)]
    if words.missing(first.clean_accuracy):
        steps = []
    wanted = {result.eps: result for result in [spotlight(group), *telling(group)[-1:]] if result.eps > 0}
    for eps, budget in wanted.items():
        found = group.lowest(eps)
        if found is not None:
            left = verdicts.told(group, found[1])
            low, high = (left.accuracy if end is None else end for end in (left.low, left.high))
            steps.append((size_of(group, budget), left.accuracy, low, high, f"{left.kept} {left.range}"))
    return tuple(steps)


def _day(run: Run) -> str:
    return str(run.manifest.get("finished") or run.manifest.get("started") or "")[:10]
