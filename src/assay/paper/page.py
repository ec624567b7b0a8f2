"""The page of the paper: its tables beside ours, and the sentence that sums them up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from assay import __version__
from assay import wording as words
from assay.audit.gradients import ROUNDED, ZERO
from assay.paper import masking
from assay.paper.compared import TITLES, Compared, compared, largest_difference
from assay.paper.figures import Drawing, Figure, figure, of_table
from assay.paper.inputs import Line, PaperContents, Point
from assay.paper.pictures import Strip, strip
from assay.paper.smallest import said
from assay.paper.tables import AS_PUBLISHED, CORRECTED, MODES, PRINTED, TableView
from assay.report.html import Chart, chart, environment, sealed
from assay.report.theme import Spec

Step = tuple[str, float, float, float, str]


@dataclasses.dataclass(frozen=True)
class PaperHeadline:
    """The sentence, around the number that matters; what follows it; and bars: name, share, low, high, text."""

    before: str
    left: str
    after: str
    second: str
    steps: tuple[Step, ...]


def paper_headline(contents: PaperContents) -> PaperHeadline:
    """Return the headline: the refutation of Table XIV where it is measured, else the largest difference from print."""
    return _refuted(contents) or _furthest(contents) or _nothing(contents)


def weakest(contents: PaperContents, one_step: bool = False) -> tuple[Line, Point] | None:
    """Return the attack that leaves least of Table XIV's network at the largest printed eps: corrected, if it is there.

    Of attacks of one step alone, if so asked. Where two leave as little, the one on more images. None where no attack
    beside the printed one was measured.
    """
    lines = contents.lines("XIV")
    printed = next((line for line in lines if line.mode == PRINTED), None)
    if printed is None:
        return None
    eps = max(point.eps for point in printed.points)
    others = [line for line in lines if line.mode != PRINTED and line.row != printed.row]
    others = [line for line in others if is_one_step(line) or not one_step]
    for mode in (CORRECTED, AS_PUBLISHED):
        at = [(line, point) for line in others if line.mode == mode and (point := line.at(eps))]
        if at:
            return min(at, key=lambda one: (one[1].accuracy, -one[1].count[1] if one[1].count else 0))
    return None


def is_one_step(line: Line) -> bool:
    """Whether a row's attack takes the single step of the printed one."""
    return line.row.startswith("FGSM")


def _refuted(contents: PaperContents) -> PaperHeadline | None:
    found = weakest(contents, one_step=True)
    if found is None:
        return None
    line, left = found
    lines = contents.lines("XIV")
    printed = next(one for one in lines if one.mode == PRINTED)
    at = printed.at(left.eps)
    naive = next((one.at(left.eps) for one in lines if one.mode == line.mode and one.row == printed.row), None)
    if at is None:
        return None
    steps = [("printed", at.accuracy, at.accuracy, at.accuracy, _percent(at))]
    if naive is not None:
        steps.append((f"{printed.row}, measured", *_step(naive)))
    steps.append((line.row, *_step(left)))
    return PaperHeadline(
        f"The paper prints {_percent(at)} accuracy for its defended network at eps {left.eps:g}; one step that sees "
        "the gradient leaves",
        _percent(left), ".", f"Table XIV is gradient masking, not robustness. {_measured(contents)}", tuple(steps),
    )  # fmt: skip


def _furthest(contents: PaperContents) -> PaperHeadline | None:
    found = largest_difference(contents.views, AS_PUBLISHED) or largest_difference(contents.views, CORRECTED)
    if found is None:
        return None
    view, row, column, points = found
    return PaperHeadline(
        "Measured again, the printed numbers are met to within", f"{abs(points):.1f} points", ".",
        f"Furthest apart: Table {view.number}, {row.name}, {column}. {_measured(contents)}", (),
    )  # fmt: skip


def _nothing(contents: PaperContents) -> PaperHeadline:
    where = f" in {contents.out}" if contents.out is not None else ""
    return PaperHeadline(
        "Nothing that can be compared with the paper has been measured yet", "", f"{where}.",
        "Tables XIII and XIV need no download but MNIST: assay paper run --table XIII --table XIV", (),
    )  # fmt: skip


def _measured(contents: PaperContents) -> str:
    done = [view.number for view in contents.views if view.runs and not view.stand_in]
    return f"Measured so far: {len(done)} of {len(TITLES)} tables ({', '.join(done)})."


def _step(point: Point) -> tuple[float, float, float, str]:
    low, high = point.interval or (point.accuracy, point.accuracy)
    n = point.count[1] if point.count else 0
    return point.accuracy, low, high, f"{_percent(point)} {words.interval(low, high, n) if n else ''}".strip()


def _percent(point: Point) -> str:
    return words.percent(point.accuracy, point.count[1] if point.count else 1000)


TEMPLATES = Path(__file__).parent / "templates"
# what torchvision's networks divide each channel by: the unit of the paper's eps
IMAGENET_STD = (0.229, 0.224, 0.225)
_DISTILLED = "XIV"  # its attacks beside the printed one have a table of their own
_STRONG = ("Carlini-Wagner", "AutoAttack")
_SHOWN_EPS = (0.01, 0.02, 0.05, 0.1)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A figure with its charts ready for the page."""

    figure: Figure
    charts: tuple[tuple[Drawing, Chart], ...]


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of the paper and what stands beside it. `table` is None where the table is not there."""

    number: str
    title: str
    table: Compared | None
    errata: tuple[str, ...]
    unfit: tuple[str, ...]
    sentences: tuple[str, ...]
    figures: tuple[Shown, ...]


@dataclasses.dataclass(frozen=True)
class Masking:
    """What shows that Table XIV is gradient masking; each chart is None where there is nothing to draw."""

    eps: tuple[str, ...]
    attacks: tuple[tuple[str, str, tuple[str, ...]], ...]
    weakest: Any
    notes: tuple[str, ...]
    smallest: tuple[Strip, ...]
    sizes: str
    vanished: str
    gaps: Chart | None
    zeros: Chart | None
    temperatures: Chart | None
    temperature_legend: list[dict[str, str]]
    temperature_eps: tuple[float, ...]
    largest: float


def page(contents: PaperContents, path: str | Path) -> Path:
    """Write the paper's page to `path`; what `contents` leaves out, the page says how to get.

    The file works from `file://`, without a network. Raises `OSError` where `path` cannot be written.
    """
    with ThreadPoolExecutor(1) as beside:
        # bundling the scripts takes a second, and leaves this thread free
        bundled = beside.submit(sealed, (TEMPLATES / "paper.css").read_text("utf-8"))
        sections = [_section(contents, number) for number in TITLES]
        mask = _masking(contents)
        html = environment(TEMPLATES).get_template("paper.html").render(
            contents=contents, head=paper_headline(contents), sections=sections, masking=mask, modes=MODES,
            spoken=_spoken, one_step=is_one_step, rounded=ROUNDED, zero=ZERO,
            grey=[_grey(eps) for eps in _SHOWN_EPS], when=_day(contents), version=__version__,
            mean_std=sum(IMAGENET_STD) / len(IMAGENET_STD), charts=_charts(sections, mask), sealed=bundled.result(),
        )  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")
    return path


def _section(contents: PaperContents, number: str) -> Section:
    view = contents.view(number)
    shown = tuple(_shown(figure(contents, one)) for one in of_table(number))
    title = view.title if view else TITLES[number]
    table = compared(view, number == _DISTILLED) if view else None
    errata, unfit = contents.errata.get(number, ()), contents.why_unfit(number)
    return Section(number, title, table, errata, unfit, _sentences(view, errata, unfit), shown)


def _sentences(view: TableView | None, errata: Sequence[str], unfit: Sequence[str]) -> tuple[str, ...]:
    """Return the sentences of a table, each once, without what stands beside it as erratum or as a flag."""
    said = dict.fromkeys(view.sentences if view else ())
    return tuple(one for one in said if one not in errata and not any(reason in one for reason in unfit))


def _shown(drawn: Figure) -> Shown:
    return Shown(
        drawn,
        tuple((one, chart(one.name, f"Figure {drawn.number}: {one.title}", one.spec)) for one in drawn.drawings),
    )


def _charts(sections: Sequence[Section], mask: Masking) -> list[Chart]:
    drawn = [one for section in sections for shown in section.figures for _, one in shown.charts]
    return [*drawn, *(one for one in (mask.gaps, mask.zeros, mask.temperatures) if one)]


def _masking(contents: PaperContents) -> Masking:
    view, probes, rows = contents.view(_DISTILLED), contents.probes, contents.temperatures
    largest = masking.largest_eps(rows)
    has_gaps = any(any(probe.counts) for probe in probes)
    eps = tuple(sorted({point.eps for line in contents.lines(_DISTILLED) for point in line.points}))
    return Masking(
        tuple(f"{one:g}" for one in eps),
        _attacks(contents, eps),
        weakest(contents),
        view.notes if view else (),
        tuple(map(strip, contents.smallest)),
        said(contents.smallest),
        _vanished(contents),
        _drawn("masking-gaps", "Gaps between the two highest logits", masking.gaps(probes)) if has_gaps else None,
        _drawn("masking-zeros", "Gradients that are exactly zero", masking.zeros(probes)) if probes else None,
        _drawn("masking-temperatures", "What the temperature does", masking.temperatures(rows, largest))
        if rows
        else None,
        masking.temperatures_legend(),
        tuple(sorted({one for row in rows for one in row.fgsm})),
        largest,
    )


def _vanished(contents: PaperContents) -> str:
    """Say how many gradients the network with the most loses, in float32 and in float64."""
    if not contents.probes:
        return ""
    most = max(contents.probes, key=lambda probe: probe.zero)
    said = f"Of {words.plural(most.n, 'image')}, {most.network} has a gradient of exactly zero for "
    said += f"{words.percent(most.zero, most.n)} in float32"
    if most.zero_in_double is None:
        return f"{said}."
    return f"{said} and for {words.percent(most.zero_in_double, most.n)} in float64."


def _drawn(name: str, title: str, spec: Spec) -> Chart:
    return chart(name, title, spec)


def _attacks(contents: PaperContents, eps: tuple[float, ...]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return the attacks on the distilled networks: mode, attack, accuracy per eps; empty where not yet measured."""
    rows = []
    for mode in MODES:
        mine = [line for line in contents.lines(_DISTILLED) if line.mode == mode]
        for line in mine:
            points = [line.at(one) for one in eps]
            cells = [words.percent(p.accuracy, p.count[1] if p.count else 1000) if p else words.EM_DASH for p in points]
            rows.append((_spoken(mode), line.row, tuple(cells)))
        absent = [name for name in _STRONG if not any(line.row.startswith(name) for line in mine)]
        rows += [(_spoken(mode), name, ()) for name in absent if mine]
    return tuple(rows)


def _spoken(mode: str) -> str:
    return mode.replace("_", " ")


def _grey(eps: float) -> tuple[str, str, tuple[str, ...]]:
    """Return a normalised budget with its size in grey levels: on average, and per channel."""
    channels = tuple(f"{255 * eps * std:.2f}" for std in IMAGENET_STD)
    return f"{eps:g}", f"{255 * eps * sum(IMAGENET_STD) / len(IMAGENET_STD):.2f}", channels


def _day(contents: PaperContents) -> str:
    """Return the day of the newest run, where one says it."""
    days = [value[:10] for source in contents.sources for name, value in source.facts if name == "finished"]
    return max(days, default="")
