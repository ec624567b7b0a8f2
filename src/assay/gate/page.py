"""The page of a comparison: what changed, by attack and by class, with pictures of images newly broken and saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.files import write_atomically
from assay.gate import comparing
from assay.gate.pairing import CLEAN, Change, Comparison
from assay.report.breakdown import class_names, name_of
from assay.report.gallery import Card, bars, magnification, png, slug
from assay.report.html import environment, sealed

if TYPE_CHECKING:
    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_CARDS = 24
_TINY = 64
_LOST, _WON = "newly broken", "newly saved"


@dataclasses.dataclass(frozen=True)
class Shelf:
    """The pictures of one number: before and now, side by side where both runs kept one."""

    title: str
    cards: tuple[Card, ...]


def page(found: Comparison, runs: Sequence[Run | None], path: Path) -> Path:
    """Write the page of a comparison; `runs` are the directories of both sides, None for a baseline file.

    The file works from `file://`, without a network. Raises `DiskError` where `path` cannot be written.
    """
    shelves = _shelves(found, runs)
    html = environment(_TEMPLATES, comparing=comparing, CLEAN=CLEAN).get_template("compare.html").render(
        found=found, tables=comparing.grouped(found), shelves=shelves, charts=[], sealed=sealed(), scale=_scale(found),
    )  # fmt: skip
    write_atomically(path, html.encode(errors="backslashreplace"))
    return path


def _scale(found: Comparison) -> float:
    # half the width of the drawing of an interval, the same in all rows
    ends = [abs(end) for one in found.changes for end in one.interval()]
    return max([0.05, *ends])


def _shelves(found: Comparison, runs: Sequence[Run | None]) -> list[Shelf]:
    made, room = [], _MOST_CARDS
    for one in found.changes:
        # the worst case over several shows what its attacks show
        if one.kind == CLEAN or one.attack != one.number.attack or not (one.lost or one.won):
            continue
        cards = tuple(_cards(one, runs))[:room]
        room -= len(cards)
        if cards:
            told = f"{comparing.title(one)} at {words.bare(one.number.eps_written)}, {comparing.about(one)}"
            made.append(Shelf(told, cards))
    return made


def _cards(one: Change, runs: Sequence[Run | None]) -> Iterator[Card]:
    kept: list[dict[str, Picture]] = []
    for run, number in zip(runs, (one.before, one.number), strict=True):
        pictures = run.gallery(number.cell) if run is not None and number is not None else []
        kept.append({picture.sample_id: picture for picture in pictures if picture.eps == one.number.eps})
    changed = {**dict.fromkeys(one.lost, _LOST), **dict.fromkeys(one.won, _WON)}
    for sample, what in changed.items():
        for side, (when, run) in enumerate(zip(("before", "now"), runs, strict=True)):
            if sample in kept[side] and run is not None:
                label = one.before if side == 0 and one.before else one.number
                yield _card(kept[side][sample], f"{what} · {when}", class_names(run, label.model, label.data))


def _card(picture: Picture, role: str, names: list[str] | None) -> Card:
    original, change = picture.original.float(), picture.perturbation.float()
    factor = magnification(picture.perturbation)
    shown: dict[str, Any] = {"original": original, "change": 0.5 + factor * change, "adversarial": original + change}
    before, after = bars(picture.clean_logits, picture.label, names), bars(picture.logits, picture.label, names)
    moved = f" → {after[0].name}" if after and not after[0].truth else ""
    return Card(
        f"{name_of(names, picture.label)}{moved}", picture.sample_id, role, picture.status,
        f"eps {words.bare(picture.eps_written)}", words.size(picture.size), factor, max(original.shape[1:]) <= _TINY,
        {name: png(tensor) for name, tensor in shown.items()}, before, after, slug(picture.sample_id, 60),
    )  # fmt: skip
