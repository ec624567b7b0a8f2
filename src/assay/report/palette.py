"""Colours of the charts: fixed ones for files, the page's own (light and dark) inside the page."""

from __future__ import annotations

import dataclasses

_SERIES = 6


@dataclasses.dataclass(frozen=True)
class Palette:
    """Where a chart takes its colours from. The series are told apart by shape as well."""

    ink: str
    muted: str
    line: str
    paper: str
    accent: str
    broken: str
    series: tuple[str, ...]


FILE = Palette(
    "#1b1f24", "#5b6470", "#e2e5e9", "#ffffff", "#1f5fbf", "#c2410c",
    ("#c2680c", "#0f7f68", "#a1478c", "#4a90c9", "#8a6d00", "#5b6470"),
)  # fmt: skip

PAGE = Palette(
    "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)", "var(--accent)", "var(--broken)",
    tuple(f"var(--series-{place})" for place in range(1, _SERIES + 1)),
)  # fmt: skip

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
