"""The first sentence of the paper's page, computed from what is there."""

from __future__ import annotations

import dataclasses

from assay import wording as words
from assay.paper.compared import TITLES, largest_difference
from assay.paper.inputs import Line, PaperContents, Point
from assay.paper.view import AS_PUBLISHED, CORRECTED, PRINTED

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
