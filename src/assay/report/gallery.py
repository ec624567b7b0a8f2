"""The pictures: original, perturbation, adversarial image, and what the model thought of them."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assay import wording as words
from assay.core.errors import BadInput
from assay.report.breakdown import REFUSED, class_names, name_of
from assay.report.groups import Group, Line

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run

Bands = Sequence[int] | None
"""The channels that pictures show, from 0: one, or three as red, green and blue; None leaves it to `shown_bands`."""

_TOP = 5
_ROLES = {
    "most": "broken, most changed",
    "least": "broken, least changed",
    "survivor": "survived",
    "refused": "refused, not broken",
}
_TINY = 64  # below this side a picture is enlarged, and its pixels should be seen as they are
_LARGEST_SIDE = 384
_NEAREST = 0  # Pillow's Resampling.NEAREST, without importing Pillow here
_FACTORS = tuple(digit * 10**power for power in range(4) for digit in (1, 2, 5))


@dataclasses.dataclass(frozen=True)
class Bar:
    """One of the five classes the model found most likely; `target` is what a targeted attack wanted."""

    name: str
    share: float
    truth: bool
    target: bool = False

    @property
    def percent(self) -> str:
        """The confidence, written for a narrow column."""
        return "<1\u00a0%" if 0 < self.share < 0.01 else f"{100 * self.share:.0f}\u00a0%"


@dataclasses.dataclass(frozen=True)
class Card:
    """One image before and after, ready to be shown: pictures as PNG bytes."""

    title: str
    sample_id: str
    role: str
    status: str
    budget: str
    size: str
    factor: int
    tiny: bool
    pictures: dict[str, bytes]
    before: tuple[Bar, ...]
    after: tuple[Bar, ...]
    stem: str

    @property
    def uris(self) -> dict[str, str]:
        """The pictures as data URIs."""
        return {
            name: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
            for name, png in self.pictures.items()
        }

    @property
    def weight(self) -> int:
        """How many bytes the pictures take."""
        return sum(len(png) for png in self.pictures.values())


@dataclasses.dataclass(frozen=True)
class Shelf:
    """The cards of one attack."""

    title: str
    about: str
    cards: tuple[Card, ...]


def shelves(run: Run, found: Iterable[Group], most_bytes: int, bands: Bands = None) -> list[Shelf]:
    """Return what to show of each attack; together at most about `most_bytes` of pictures.

    Raises `BadInput` for `bands` that the images do not have.
    """
    wanted = [
        (group, line, pictures)
        for group in found
        for line in group.lines
        if line.cell is not None and (pictures := choose(run.gallery(line.cell)))
    ]
    share = most_bytes // max(1, len(wanted))
    return [_shelf(run, group, line, pictures, _Room(share, bands)) for group, line, pictures in wanted]


def choose(pictures: Sequence[Picture]) -> list[Picture]:
    """Choose pictures worth a look: one of each role at the smallest budget that broke any, and at a middle one."""
    kept = [picture for picture in pictures if picture.eps > 0]
    broken = sorted({picture.eps for picture in kept if picture.status == "broken"})
    budgets = broken or sorted({picture.eps for picture in kept})
    if len(budgets) > 1:
        budgets = [budgets[0], budgets[len(budgets) // 2]]
    chosen: list[Picture] = []
    for eps in budgets:
        for role in _ROLES:
            same = [picture for picture in kept if picture.eps == eps and picture.role == role]
            seen = {picture.sample_id for picture in chosen}
            fresh = [picture for picture in same if picture.sample_id not in seen]
            chosen += fresh[:1]
    return chosen


def write_pictures(found: Iterable[Shelf], directory: Path) -> int:
    """Write every picture as a PNG file; return how many. Raises `OSError` where the directory takes none."""
    written = 0
    for shelf in found:
        for card in shelf.cards:
            for name, png in card.pictures.items():
                directory.mkdir(parents=True, exist_ok=True)
                (directory / f"{card.stem}-{name}.png").write_bytes(png)
                written += 1
    return written


class _Room(NamedTuple):
    # how many bytes of pictures a shelf has, and which bands they show
    most_bytes: int
    bands: Bands


def _shelf(run: Run, group: Group, line: Line, pictures: list[Picture], room: _Room) -> Shelf:
    names = class_names(run, group.model, group.data)
    cards: list[Card] = []
    for picture in pictures:
        card = _card(group, line, picture, names, room.bands)
        if cards and sum(other.weight for other in cards) + card.weight > room.most_bytes:
            break
        cards.append(card)
    shown = told_bands(len(pictures[0].original), room.bands)
    about = f"{words.short(group.model)} · {words.short(group.data)} · {group.kind}{shown and f' · {shown}'}"
    return Shelf(line.label, about, tuple(cards))


def _card(group: Group, line: Line, picture: Picture, names: list[str] | None, bands: Bands = None) -> Card:
    factor = magnification(picture.perturbation)
    original, change = picture.original.float(), picture.perturbation.float()
    shown = {"original": original, "change": 0.5 + factor * change, "adversarial": original + change}
    before, after = bars(picture.clean_logits, picture.label, names), bars(picture.logits, picture.label, names)
    budget = f"eps {words.bare(picture.eps_written)}"
    if group.norm == "linf":
        level = next((result.grey_levels for result in line.results if result.eps == picture.eps), None)
        budget += "" if level is None else f" ({words.grey(level)} grey levels)"
    moved = f" → {after[0].name}" if after and not after[0].truth else ""
    moved = f" → {REFUSED}" if picture.refused else moved
    title = f"{name_of(names, picture.label)}{moved}"
    place = slug(f"{line.label}-{words.bare(picture.eps_written)}-{picture.role}", 60)
    stem = f"{(line.cell or '')[:8]}-{place}-{slug(picture.sample_id, 60)}"
    return Card(
        title, picture.sample_id, _ROLES.get(picture.role, picture.role), picture.status, budget,
        words.size(picture.size), factor, max(original.shape[1:]) <= _TINY,
        {name: png(tensor, bands=bands) for name, tensor in shown.items()}, before, after, stem,
    )  # fmt: skip


def magnification(perturbation: Tensor) -> int:
    """Return the round factor that makes a perturbation fill the range of grey around the middle."""
    largest = float(perturbation.abs().max()) if perturbation.numel() else 0.0
    if largest == 0:
        return 1
    return max((factor for factor in _FACTORS if factor * largest <= 0.5 + 1e-3), default=1)


def bars(logits: Tensor, label: int, names: list[str] | None, target: int | None = None) -> tuple[Bar, ...]:
    """Return the five likeliest classes, the true one and the target marked."""
    shares = logits.double().softmax(0)
    top = shares.topk(min(_TOP, len(shares)))
    return tuple(
        Bar(name_of(names, at), share, at == label, at == target)
        for share, at in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    )


def shown_bands(channels: int, bands: Bands = None) -> tuple[int, ...]:
    """Return which of so many channels a picture shows: one as grey, or three as red, green and blue.

    Without `bands`: all of one or three, the first of two, the first three of four (the fourth is often near infrared
    or alpha), and of more the first, the middle and the last. Images of one or three channels are shown as they are.
    Raises `BadInput` for bands that are not one or three of those there are.
    """
    if channels in (1, 3):
        return tuple(range(channels))
    if bands is None:
        return {2: (0,), 4: (0, 1, 2)}.get(channels, (0, channels // 2, channels - 1))
    if len(bands) not in (1, 3) or not all(0 <= band < channels for band in bands):
        raise BadInput(
            f"bands are {', '.join(map(str, bands))}, expected one, or three for red, green and blue, of the "
            f"{channels} that the images have, numbered from 0 to {channels - 1}."
        )
    return tuple(bands)


def told_bands(channels: int, bands: Bands = None) -> str:
    """Say which bands pictures show, where that is not all there are."""
    shown = shown_bands(channels, bands)
    if len(shown) == channels:
        return ""
    numbers = ", ".join(map(str, shown))
    kind = "as red, green and blue" if len(shown) == 3 else "as grey"
    return f"band{'s' * (len(shown) > 1)} {numbers} of {channels} {kind}"


def png(pixels: Tensor, *, least: int = 1, most: int = _LARGEST_SIDE, bands: Bands = None) -> bytes:
    """Write an image `[C, H, W]` in [0, 1] as PNG: rounded to 8 bits, and clipped where it leaves the range.

    Of other than one or three channels it shows `bands` (`shown_bands`). One whose longer side is over `most` is
    reduced to it; one whose longer side is under `least` is enlarged to that or more, whole pixels to squares.
    """
    picture = _picture(pixels[list(shown_bands(len(pixels), bands))])
    if max(picture.size) > most:
        picture.thumbnail((most, most))
    times = -(-least // max(picture.size))
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), resample=_NEAREST)
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def _picture(pixels: Tensor) -> Image:
    from PIL import Image

    eight = (pixels.detach().float().cpu().nan_to_num(0.0).clamp(0, 1) * 255).round().byte()
    array = eight.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def slug(name: str, longest: int) -> str:
    """Return the last `longest` characters of a name, safe in a file name everywhere."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", name).strip("._")[-longest:]
