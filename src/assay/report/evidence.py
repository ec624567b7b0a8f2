"""A verdict as the page shows it: findings, attempts, charts, and the images that refute a number."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay import wording as words
from assay.evaluation.records.verdicts import FOLDER, Finding, Verdict
from assay.report import verdicts
from assay.report.breakdown import class_names, name_of
from assay.report.charts import evidence_charts
from assay.report.gallery import Bands, png
from assay.report.groups import Group
from assay.report.headline import size_of
from assay.report.html import Chart, chart

if TYPE_CHECKING:
    from assay.evaluation.run import Run

MOST_IMAGES = 8
_THUMBNAIL = 112
_TINY = 64  # below this side pixels should be seen as they are


@dataclasses.dataclass(frozen=True)
class Refuting:
    """An image before and after, as data URIs, and what the model calls it."""

    original: str
    adversarial: str
    title: str
    tiny: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """A finding, ready to be shown; `state` is flag, note, pass or unasked."""

    check: str
    measured: str
    threshold: str
    state: str
    meaning: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A verdict and everything that stands behind it; `name` is its id in the page."""

    name: str
    verdict: Verdict
    budget: str
    reason: str
    cost: str
    rows: tuple[Row, ...]
    charts: tuple[tuple[str, Chart], ...]
    strip: tuple[Refuting, ...]

    @property
    def mark(self) -> str:
        """The sign of the verdict."""
        return verdicts.MARKS[self.verdict.verdict]


def evidence(run: Run, group: Group, place: int, bands: Bands = None) -> tuple[Evidence, ...]:
    """Return the evidence of a group's verdicts, one per budget; `place` is that of the group in the page."""
    names = class_names(run, group.model, group.data)
    sizes = {result.eps: size_of(group, result) for result in group.budgets}
    return tuple(
        _evidence(one, f"verdict-{place}-{at}", sizes.get(one.eps, ""), refuting(Path(run.path), one, names, bands))
        for at, one in enumerate(group.verdicts)
    )


def _evidence(verdict: Verdict, name: str, size: str, strip: tuple[Refuting, ...]) -> Evidence:
    about = f"{verdict.model} on {verdict.data}, eps {words.bare(verdict.eps_written)}"
    drawn = tuple(
        (title, chart(f"{name}-{at}", f"{title}: {about}", spec))
        for at, (title, spec) in enumerate(evidence_charts(verdict).items())
    )
    budget = f"eps {words.bare(verdict.eps_written)}" + (f" ({size})" if size else "")
    return Evidence(
        name, verdict, budget, verdicts.reason(verdict), verdicts.cost(verdict), rows(verdict.findings), drawn,
        strip,
    )  # fmt: skip


_STATES = ("flag", "note", "pass", "unasked")


def rows(findings: Sequence[Finding]) -> tuple[Row, ...]:
    """Return findings as they are shown: what flags first, what could not be asked last."""
    made = [
        Row(one.check, _value(one.value), _value(one.threshold), _state(one), one.meaning, one.remedy)
        for one in findings
    ]
    return tuple(sorted(made, key=lambda row: _STATES.index(row.state)))


def _state(finding: Finding) -> str:
    if finding.flag:
        return "flag" if finding.mandatory else "note"
    return "unasked" if finding.value is None else "pass"


def _value(value: float | None) -> str:
    return words.EM_DASH if value is None else f"{value:.3g}"


def refuting(folder: Path, verdict: Verdict, names: list[str] | None, bands: Bands = None) -> tuple[Refuting, ...]:
    """Return a few of the images that refute a number; none where there are none, or the file is gone or damaged."""
    from safetensors import SafetensorError, safe_open

    # the name comes from a file that travels: it must not lead out of the folder
    path = folder / FOLDER / Path(verdict.images or "none").name
    if verdict.images is None or not path.is_file():
        return ()
    try:
        with safe_open(path, "pt") as kept:
            parts = [kept.get_slice(name)[:MOST_IMAGES] for name in ("originals", "images", "labels", "predictions")]
    except (OSError, SafetensorError):
        return ()
    return tuple(
        Refuting(
            _uri(png(original, most=_THUMBNAIL, bands=bands)), _uri(png(image, most=_THUMBNAIL, bands=bands)),
            f"{name_of(names, int(label))} → {name_of(names, int(called))}", max(image.shape[1:]) <= _TINY,
        )
        for original, image, label, called in zip(*parts, strict=True)
    )  # fmt: skip


def _uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
