"""Figures made of pictures: panels with the five likeliest classes (1, 2, 4 to 6), patches (3), digits (9)."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.paper.inputs import Example, Panel
from assay.paper.smallest import Smallest
from assay.report.gallery import Bar, png
from assay.report.theme import IN_PAGE, Look, Spec, dressed

if TYPE_CHECKING:
    from torch import Tensor

_PIXELS, _FILE_PIXELS = 192, 384  # a picture has at most so many a side in the page and in a file
_PANEL, _GAP = 400, 12  # the width of a panel in the page, and the space between its parts
_FILE_SIDE, _FILE_BARS = 150, 230
_BAR_ROW = 29
_CELL, _DIGIT = 66, 48
_PATCH_SCALE = 1.5


def panel(shown: Panel, look: Look = IN_PAGE) -> Spec:
    """Draw one panel: its pictures, and the five likeliest classes beside or, under three pictures, below them."""
    return dressed(_panel(shown, look, look.alone), look, shown.title, fixed=True)


def panels(shown: Sequence[Panel], title: str, look: Look) -> Spec:
    """Draw panels below each other, as in a paper."""
    import altair as alt

    rows = [_panel(one, look, True).properties(title=_heading(one, look)) for one in shown]
    note = alt.TitleParams(title, subtitle=colors(shown), offset=14)
    chart = alt.vconcat(*rows, spacing=24).properties(title=note)
    return dressed(chart, look, "", fixed=True)


def colors(shown: Sequence[Panel]) -> str:
    """Say what the colours of the bars mean."""
    targeted = any(bar.target for one in shown for bar in one.bars)
    return "Blue: the true class." + (" Orange: the class that the attack wants." if targeted else "")


def _heading(shown: Panel, look: Look) -> Any:
    import altair as alt

    about = [shown.network] if shown.network else []
    return alt.TitleParams(shown.title, subtitle=about, fontSize=13, color=look.palette.ink)


def _panel(shown: Panel, look: Look, wide: bool) -> Any:
    import altair as alt

    many = len(shown.images)
    if wide:
        side, width = _FILE_SIDE, _FILE_BARS
    elif many == 1:
        side = 5 * _BAR_ROW
        width = _PANEL - side - _GAP
    else:
        side, width = (_PANEL - (many - 1) * _GAP) // many, _PANEL
    pictures = [_picture(name, pixels, side, look) for name, pixels in shown.images.items()]
    bars = _bars(shown.bars, width, side if wide else 5 * _BAR_ROW, look)
    if wide or many == 1:
        return alt.hconcat(*pictures, bars, spacing=_GAP)
    return alt.vconcat(alt.hconcat(*pictures, spacing=_GAP), bars, spacing=8)


def _picture(name: str, pixels: Tensor, side: int, look: Look) -> Any:
    import altair as alt

    title = alt.TitleParams(
        name, orient="bottom", anchor="middle", fontSize=11, fontWeight="normal", color=look.palette.muted, offset=4
    )
    row = {"picture": uri(pixels, _most(look)), "name": name}
    return (
        alt.Chart(alt.InlineData(values=[row]))
        .mark_image(width=side, height=side)
        .encode(
            x=alt.value(side / 2),
            y=alt.value(side / 2),
            url="picture:N",
            description="name:N",
            tooltip=alt.Tooltip("name:N", title=" "),
        )
        .properties(width=side, height=side, **({"title": title} if name else {}))
    )


def uri(pixels: Tensor, most: int = _PIXELS) -> str:
    """Return a picture `[C, H, W]` in [0, 1] as a PNG data URI, at most `most` a side.

    Small ones are enlarged to half of that or more, whole pixels to squares.
    """
    return f"data:image/png;base64,{base64.b64encode(png(pixels, least=most // 2, most=most)).decode('ascii')}"


def _most(look: Look) -> int:
    return _FILE_PIXELS if look.alone else _PIXELS


def _bars(bars: Sequence[Bar], width: int, height: int, look: Look) -> Any:
    import altair as alt

    palette = look.palette
    colors = {"true class": palette.accent, "target": palette.broken, "other": palette.muted}
    values = [
        {"place": place, "class": bar.name, "share": bar.share, "percent": bar.percent.replace("\u00a0", " "),
         "exact": f"{bar.share:.4f}", "is": "true class" if bar.truth else "target" if bar.target else "other"}
        for place, bar in enumerate(bars)
    ]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=values))
    y = alt.Y("place:O", axis=None, scale=alt.Scale(domain=list(range(5)), paddingInner=0, paddingOuter=0))
    x = alt.X("share:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    tips = [alt.Tooltip("class:N"), alt.Tooltip("exact:N", title="confidence"), alt.Tooltip("is:N", title="this is")]
    color = alt.Color("is:N", legend=None, scale=alt.Scale(domain=list(colors), range=list(colors.values())))
    track = base.mark_bar(height=5, yOffset=7, color=palette.line, cornerRadius=2).encode(
        y=y, x=alt.value(0), x2=alt.value(width)
    )
    fill = base.mark_bar(height=5, yOffset=7, cornerRadius=2).encode(y=y, x=x, color=color, tooltip=tips)
    text: dict[str, Any] = {"dy": -4, "fontSize": 11.5, "baseline": "middle"}
    name = base.mark_text(align="left", limit=width - 46, color=palette.ink, **text).encode(
        y=y, x=alt.value(0), text="class:N", tooltip=tips
    )
    strong = base.transform_filter("datum.is != 'other'").mark_text(
        align="left", limit=width - 46, fontWeight="bold", color=palette.ink, **text
    ).encode(y=y, x=alt.value(0), text="class:N", tooltip=tips)  # fmt: skip
    plain = name.transform_filter("datum.is == 'other'")
    share = base.mark_text(align="right", color=palette.muted, **text).encode(
        y=y, x=alt.value(width), text="percent:N", tooltip=tips
    )
    return alt.layer(track, fill, plain, strong, share).properties(width=width, height=height)


def patches(found: Mapping[tuple[str, int], Tensor], look: Look = IN_PAGE, title: str = "") -> Spec:
    """Draw Figure 3: a row per target class, a column per size, each patch in proportion to its size."""
    import altair as alt

    targets, sides = list(dict.fromkeys(target for target, _ in found)), sorted({side for _, side in found})
    layers = []
    for side in sides:
        rows = [
            {
                "target": target,
                "side": f"{side} px",
                "about": f"{target}, {side} px",
                "picture": uri(found[target, side], _most(look)),
            }
            for target in targets
            if (target, side) in found
        ]
        shown = int(_PATCH_SCALE * side)
        layers.append(
            alt.Chart(alt.InlineData(values=rows)).mark_image(width=shown, height=shown).encode(
                x=alt.X("side:N", sort=[f"{one} px" for one in sides], title=None,
                        axis=alt.Axis(orient="top", labelAngle=0, grid=False, ticks=False)),
                y=alt.Y("target:N", sort=targets, title=None, axis=alt.Axis(grid=False, ticks=False, labelLimit=140)),
                url="picture:N", description="about:N",
                tooltip=[alt.Tooltip("target:N", title="target"), alt.Tooltip("side:N")],
            )
        )  # fmt: skip
    step = int(_PATCH_SCALE * max(sides)) + _GAP
    chart = alt.layer(*layers).properties(width=step * len(sides), height=step * len(targets))
    return dressed(chart, look, title, fixed=True)


@dataclasses.dataclass(frozen=True)
class Strip:
    """A digit beside its smallest changes, ready for the page: pairs of a picture's URI and what is said of it."""

    true: int
    parts: tuple[tuple[str, str, str], ...]


def strip(found: Smallest) -> Strip:
    """Return a digit and its smallest changes: for each the picture, where it comes from, class and distance."""
    parts = [(uri(found.image), "image", f"{found.true}")]
    parts += [
        (uri(one.image), network, f"{one.predicted}, L₂ {one.size:.2f}") for network, one in found.changed.items()
    ]
    return Strip(found.true, tuple(parts))


def digits(found: Mapping[float, Sequence[Example]], look: Look = IN_PAGE, title: str = "") -> Spec:
    """Draw Figure 9: a column of examples per eps, above each its true and its predicted label."""
    import altair as alt

    rows = [
        {"eps": f"{eps:g}", "place": place, "picture": uri(one.image, _most(look)), "right": one.true == one.predicted,
         "says": f"{one.true} → {one.predicted}", "true": one.true, "predicted": one.predicted}
        for eps, examples in sorted(found.items())
        for place, one in enumerate(examples)
    ]  # fmt: skip
    columns = [f"{eps:g}" for eps in sorted(found)]
    most = max(map(len, found.values()), default=0)
    base = alt.Chart(alt.InlineData(values=rows))
    x = alt.X("eps:N", sort=columns, title="eps", scale=alt.Scale(paddingInner=0, paddingOuter=0),
              axis=alt.Axis(orient="top", labelAngle=0, grid=False, ticks=False))  # fmt: skip
    y = alt.Y("place:O", axis=None, scale=alt.Scale(domain=list(range(most)), paddingInner=0, paddingOuter=0))
    tips = [alt.Tooltip("eps:N"), alt.Tooltip("true:N", title="true"), alt.Tooltip("predicted:N", title="predicted")]
    image = base.mark_image(width=_DIGIT, height=_DIGIT, yOffset=9).encode(
        x=x, y=y, url="picture:N", description="says:N", tooltip=tips
    )
    palette = look.palette
    text: dict[str, Any] = {"dy": -(_DIGIT // 2) - 1, "fontSize": 11.5}
    right = base.transform_filter("datum.right").mark_text(color=palette.muted, **text).encode(x=x, y=y, text="says:N")
    wrong = base.transform_filter("!datum.right").mark_text(color=palette.broken, fontWeight="bold", **text).encode(
        x=x, y=y, text="says:N"
    )  # fmt: skip
    chart = alt.layer(image, right, wrong).properties(width=_CELL * len(columns), height=(_CELL + 10) * most)
    return dressed(chart, look, title, fixed=True)
