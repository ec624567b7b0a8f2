"""Write docs/checks.md and its plots from the table of checks and docs/audit/calibration.json.

Usage: python scripts/checks_page.py
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

from assay.audit.checks import CHECKS, Check

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, LEFT, RIGHT, ROWS = 720, 90, 20, {"honest": 38, "broken": 78}
COLOURS = {"honest": "#2a78b8", "broken": "#c8452f"}

HEAD = """# The checks of an audit

What `assay audit` asks about a robust number, check by check; [Can I trust this number?](trust.md) says how they make a
verdict. This page and its plots are written from the table of checks and from measurements:

```sh
python scripts/calibrate_audit.py   # 12 broken defences and 7 honest networks, some 30 minutes on one core
python scripts/checks_page.py
```

Each dot is one audit under one seed: below, the [broken defences](broken-defenses.md) around `zoo:mnist-cnn` evaluated
by PGD; above, honest networks evaluated by the cascade, in Linf and L2. The line is the threshold. A check marked
mandatory makes a number suspect where it flags; the others explain. Values that could not be asked are missing.
"""


def page(measured: dict[str, Any]) -> str:
    """Return the page."""
    return "\n".join([HEAD, _verdicts(measured), *(_section(name, check, measured) for name, check in CHECKS.items())])


def _verdicts(measured: dict[str, Any]) -> str:
    lines = [
        "## What they say together",
        "",
        "200 digits; `as first measured` and `after escalation` in per cent; passes per digit of evaluation, evidence",
        "and escalation, of the first seed.",
        "",
        "| model | threat | attack | first | after | verdicts by seed | evaluation | evidence | escalation |",
        "| --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, one in sorted(measured.items(), key=lambda pair: (pair[1]["group"], pair[0])):
        first = one["audits"][0]
        n = one["digits"]
        after = max(audit["after"] for audit in one["audits"])
        told = ", ".join(audit["verdict"] for audit in one["audits"])
        cost = " | ".join(f"{first[key] / n:.0f}" for key in ("evaluation", "passes", "escalation"))
        where = f"{one['norm']} {one['eps']}"
        shares = f"{100 * first['first']:.1f} | {100 * after:.1f}"
        lines.append(f"| {name.split()[0]} | {where} | {one['attack']} | {shares} | {told} | {cost} |")
    return "\n".join([*lines, ""])


def _section(name: str, check: Check, measured: dict[str, Any]) -> str:
    kind = "mandatory" if check.mandatory else "explains"
    values = _values(name, measured)
    flags = {group: (sum(flag for _, flag in dots), len(dots)) for group, dots in values.items()}
    told = "; ".join(
        f"flags {flagged} of {count} audits of {group} models" for group, (flagged, count) in flags.items()
    )
    doc = " ".join((inspect.getdoc(check.test) or "").split())
    plot = f"\n![What {name} measured](audit/{slug(name)}.svg)\n" if any(values.values()) else ""
    summary = f"{check.summary[0].upper()}{check.summary[1:]} ({kind}). {doc}"
    return f"## {name}\n\n{summary}\n\nThreshold: {check.source}. Here it {told}.\n{plot}"


def _values(name: str, measured: dict[str, Any]) -> dict[str, list[tuple[float, bool]]]:
    found: dict[str, list[tuple[float, bool]]] = {"honest": [], "broken": []}
    for one in measured.values():
        for audit in one["audits"]:
            value, flag, *_ = audit["checks"].get(name, (None, False, 0, None))
            if value is not None and math.isfinite(value):
                found[one["group"]].append((value, flag))
    return found


def slug(name: str) -> str:
    """Return a check's name as a file has it."""
    return name.replace(" ", "-")


def plot(name: str, measured: dict[str, Any]) -> str:
    """Return the plot of a check: a strip of dots for each group, and the threshold."""
    values = _values(name, measured)
    threshold = next((t for t in (_threshold(name, one) for one in measured.values()) if t is not None), None)
    every = [value for dots in values.values() for value, _ in dots] + ([threshold] if threshold is not None else [])
    low, high = min([0.0, *every]), max([1e-9, *every])

    def place(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 120" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="120" fill="#ffffff"/>',
    ]
    for group, y in ROWS.items():
        parts.append(f'<text x="8" y="{y + 4}" fill="#333333">{group}</text>')
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#dddddd"/>')
        for i, (value, _) in enumerate(sorted(values[group])):
            # dots of equal value are spread over the strip
            shift = (i * 7) % 19 - 9
            at = f'cx="{place(value):.1f}" cy="{y + shift}"'
            parts.append(f'<circle {at} r="3.5" fill="{COLOURS[group]}" fill-opacity="0.55"/>')
    if threshold is not None:
        x = f"{place(threshold):.1f}"
        parts.append(f'<line x1="{x}" y1="14" x2="{x}" y2="100" stroke="#333333" stroke-dasharray="4 3"/>')
    parts += [
        f'<text x="{LEFT}" y="115" fill="#666666">{low:.3g}</text>',
        f'<text x="{WIDTH - RIGHT}" y="115" fill="#666666" text-anchor="end">{high:.3g}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _threshold(name: str, one: dict[str, Any]) -> float | None:
    told = [audit["checks"][name][3] for audit in one["audits"] if name in audit["checks"]]
    return next((value for value in told if value is not None), None)


def main() -> None:
    """Write page and plots."""
    measured = json.loads((DOCS / "audit" / "calibration.json").read_text())
    (DOCS / "checks.md").write_text(page(measured))
    for name in CHECKS:
        if any(_values(name, measured).values()):
            (DOCS / "audit" / f"{slug(name)}.svg").write_text(plot(name, measured))


if __name__ == "__main__":
    main()
