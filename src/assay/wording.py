"""How numbers and names are written, the same in every table, chart and sentence."""

from __future__ import annotations

import math

EM_DASH = "—"
ONE_ATTACK = "one attack, not robustness"
_FEW = 100  # below this many samples a tenth of a percent says more than was measured
_BITS_OF_NAMES = 60


def missing(value: float | None) -> bool:
    """Return whether there is no number to show."""
    return value is None or math.isnan(value)


def digits(n: int) -> int:
    """Return how many decimals a percentage measured on `n` samples deserves."""
    return 0 if n < _FEW else 1


def number(fraction: float | None, n: int) -> str:
    """Write a fraction as a percentage without its sign: `97.6`, or a dash where there is none."""
    if fraction is None or math.isnan(fraction):
        return EM_DASH
    return f"{100 * fraction:.{digits(n)}f}"


def percent(fraction: float | None, n: int, space: str = "\u00a0") -> str:
    """Write a fraction as `97.6 %`, with as many decimals as `n` samples carry."""
    return EM_DASH if missing(fraction) else f"{number(fraction, n)}{space}%"


def interval(low: float | None, high: float | None, n: int) -> str:
    """Write a 95 % interval as `[96.5–98.4]`, in percent."""
    if missing(low) or missing(high):
        return ""
    return f"[{number(low, n)}–{number(high, n)}]"


def grey(levels: float) -> str:
    """Write a size in grey levels: two digits that matter, no more."""
    if missing(levels) or math.isinf(levels):
        return EM_DASH
    return f"{levels:.0f}" if levels >= 99.5 or levels == round(levels) else f"{levels:.1f}"


def size(value: float | None) -> str:
    """Write the size of a perturbation."""
    return EM_DASH if value is None or math.isnan(value) else f"{value:.3g}"


def bare(written: str) -> str:
    """Write a budget without its unit, which stands once, in the title: `normalized 0.02` -> `0.02`."""
    return written.removeprefix("normalized ").removeprefix("pixel ")


def count(value: float) -> str:
    """Write a whole number with its thousands separated: `1,000`."""
    return f"{round(value):,}"


def plural(value: int, noun: str) -> str:
    """Write a number of things: `1 image`, `1,000 images`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


ELSEWHERE = "not broken by images made on another model"
"""What the number is called that such images leave a model that can only be asked."""


def measure(access: str, limit: int | None, *, elsewhere: bool = False) -> str:
    """Name the number that attacks leave: of a model that can only be asked, what `limit` queries did not break.

    `elsewhere` says that the images were made on another model, and the queries judged them.
    """
    if access == "gradient":
        return "robust accuracy"
    if elsewhere:
        return ELSEWHERE
    return f"not broken within {'its queries' if limit is None else queries(limit)}"


def queries(value: int) -> str:
    """Write a number of queries: `1 query`, `1,000 queries`."""
    return f"{count(value)} {'query' if value == 1 else 'queries'}"


def duration(seconds: float) -> str:
    """Write a time a person can grasp: `0.4 s`, `12 s`, `3 min 12 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def without_surrogate(label: str) -> str:
    """Write an attack's label with `…` for its surrogate, whose name is long: `pgd(steps=5, …)`."""
    head, found, _ = label.partition("surrogate=")
    return f"{head}…)" if found else label


def short(name: str, longest: int = _BITS_OF_NAMES) -> str:
    """Shorten a name in its middle, where paths differ least."""
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[-(longest - 1 - head) :]}"


def norm(threat: str) -> str:
    """Write a norm as the papers do: `linf` -> `L∞`."""
    return {"linf": "L∞", "l2": "L₂", "l1": "L₁", "l0": "L₀", "ycbcr": "YCbCr L∞", "patch": "patch"}.get(threat, threat)


def seen(levels: float) -> str:
    """Name how visible a change of that many grey levels (of 255, every pixel) is."""
    if levels <= 4.05:
        return "imperceptible"
    if levels <= 8.05:
        return "barely visible"
    return "visible"


def rough_duration(seconds: float) -> str:
    """Write an estimated time: `8 s`, `3 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def file_size(count: int) -> str:
    """Write a number of bytes: `312 B`, `12 kB`, `3.4 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
