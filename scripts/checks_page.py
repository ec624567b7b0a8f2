"""Write docs/checks.md, docs/checks/*.md and docs/audit/*.svg from the table of checks and docs/audit/calibration.json.

Usage: python scripts/checks_page.py
"""

from __future__ import annotations

import inspect
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.audit.checks import CHECKS, Check

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN = ("checks.md", "checks/*.md", "audit/*.svg")
WIDTH, LEFT, RIGHT, TOP, ROW = 720, 90, 20, 38, 40
COLOURS = {"honest": "#2a78b8", "broken": "#c8452f"}
OTHERS = ("#5a8f3c", "#8a5bb0", "#a8802a")

HEAD = """# The checks of an audit

What `assay audit` asks about a robust number, with a page for each check; [Can I trust this number?](trust.md) says how
they make a verdict. This page, those of the checks and their plots are written from the table of checks and from
measurements:

```sh
python scripts/calibrate_audit.py --digits 100 --seeds 2 --only broken   # some 5 minutes on one core
python scripts/calibrate_audit.py --digits 60 --seeds 2 --only honest guarded   # an hour, with the training of five
python scripts/checks_page.py
```

The models of the measurements are the [broken defences](broken-defenses.md) around `zoo:mnist-cnn` evaluated by PGD
(`broken`), and honest networks evaluated by the cascade, in Linf, L2 and L1 (`honest`; `guarded` is one of them behind
a clamp). Each evaluation is audited under two seeds. Without `--only`, the broken defences are measured once more with
the undefended network as a twin and around EfficientNet-Lite0. A check marked mandatory makes a number suspect where it
flags; the others explain. Values that could not be asked are missing.

Of the honest networks `trades`, trained in Linf, has its numbers of the cascade refuted in L2 and, under one of two
seeds, in L1: they were 5 and 3 points too high. What refutes is real, each image judged by the network itself; that
another seed trusts the number in L1 is a fault of the audit that is known.
"""

MANDATORY = "mandatory: a flag makes the number suspect, and stronger attacks try to refute it"
EXPLAINS = "explains: it is noted, and does not touch the verdict"


def files(measured: dict[str, Any]) -> dict[str, str]:
    """Return the text of every page and plot, by its path below docs/."""
    made = {"checks.md": "\n".join([HEAD, *_list(measured), *_verdicts(measured)])}
    for name, check in CHECKS.items():
        made[_page(name)] = "\n".join(_lines(name, check, measured))
        if any(_values(name, measured).values()):
            made[_plot(name)] = plot(name, measured)
    return made


def _page(name: str) -> str:
    return f"checks/{name.replace(' ', '-')}.md"


def _plot(name: str) -> str:
    return f"audit/{name.replace(' ', '-')}.svg"


def _groups(measured: dict[str, Any]) -> list[str]:
    return [*COLOURS, *sorted({one["group"] for one in measured.values()} - set(COLOURS))]


def _members(group: str, measured: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries of a group, each with the name of its model: entries name the norm after it."""
    entries = sorted((key, one) for key, one in measured.items() if one["group"] == group)
    return [(key.removesuffix(f" {one['norm']}"), one) for key, one in entries]


def _list(measured: dict[str, Any]) -> Iterator[str]:
    groups = _groups(measured)
    yield "## What each asks"
    yield ""
    yield "Flags count the audits of a group in which the check could be asked; passes are those of the evidence that a"
    yield "check reads, per image, the median over all audits. Several checks read the same evidence."
    yield ""
    yield f"| check | asks whether | kind | threshold | {' | '.join(f'flags {one}' for one in groups)} | passes |"
    yield f"| --- | --- | --- | ---: | {'---: | ' * len(groups)}---: |"
    for name, check in CHECKS.items():
        kind = "mandatory" if check.mandatory else "explains"
        threshold = _threshold(name, measured)
        limit = "" if threshold is None else _shown(threshold, check)
        flags = " | ".join(_flags(name, group, measured) for group in groups)
        cost = _cost(check.probe, measured)
        passes = "" if cost is None else f"{cost[1]:.1f}"
        yield f"| [{name}]({_page(name)}) | {check.summary} | {kind} | {limit} | {flags} | {passes} |"
    yield ""


def _verdicts(measured: dict[str, Any]) -> Iterator[str]:
    yield "## What they say together"
    yield ""
    yield "`as first measured` and `after escalation` in per cent; passes per image of evaluation, evidence and"
    yield "escalation, of the first seed."
    for group in _groups(measured):
        if not (members := _members(group, measured)):
            continue
        yield f"\n### {group}\n"
        yield "| model | threat | attack | images | first | after | by seed | evaluation | evidence | escalation |"
        yield "| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
        for name, one in members:
            first, n = one["audits"][0], one["digits"]
            after = max(audit["after"] for audit in one["audits"])
            told = ", ".join(audit["verdict"] for audit in one["audits"])
            cost = " | ".join(f"{first[key] / n:.0f}" for key in ("evaluation", "passes", "escalation"))
            shares = f"{100 * first['first']:.1f} | {100 * after:.1f}"
            yield f"| {name} | {one['norm']} {one['eps']} | {one['attack']} | {n} | {shares} | {told} | {cost} |"
    yield ""


def _lines(name: str, check: Check, measured: dict[str, Any]) -> Iterator[str]:
    """Yield the page of a check."""
    yield f"# {name[0].upper()}{name[1:]}"
    yield ""
    yield f"Asks whether {check.summary}."
    yield ""
    yield _definition(check)
    yield ""
    threshold = _threshold(name, measured)
    limit = "" if threshold is None else f"{_shown(threshold, check)}; "
    yield f"| value | {check.value} |"
    yield "| --- | --- |"
    yield f"| unit | {check.unit} |"
    yield f"| threshold | {limit}{check.source} |"
    yield f"| kind | {MANDATORY if check.mandatory else EXPLAINS} |"
    yield f"| a flag means | {check.cause[0].upper()}{check.cause[1:]}. |"
    yield f"| remedy | {check.remedy} |"
    yield f"| cost | {_told_cost(name, check, measured)} |"
    yield ""
    yield "## What it measured"
    yield ""
    calibration = "[calibration](../checks.md#what-they-say-together)"
    groups = [group for group in _groups(measured) if _found(name, group, measured)]
    if groups:
        flags = "; ".join(f"{_flags(name, group, measured)} audits of `{group}` models" for group in groups)
        yield f"Flags in the {calibration}: {flags}."
        yield ""
        yield from _measured(name, check, measured)
    else:
        yield f"Not asked in the {calibration}."
    yield ""
    yield "[All checks](../checks.md)"
    yield ""


def _definition(check: Check) -> str:
    """Return the docstring, in which checks that it names become links."""
    text = inspect.getdoc(check.test) or ""
    for name in CHECKS:
        text = text.replace(f"`{name}`", f"[{name}]({Path(_page(name)).name})")
    return text


def _measured(name: str, check: Check, measured: dict[str, Any]) -> Iterator[str]:
    """Yield the plot, and a table of value and flag for each model and seed."""
    if any(_values(name, measured).values()):
        yield f"![What {name} measured](../{_plot(name)})"
        yield ""
        yield "Each dot is one audit under one seed, the dashed line the threshold."
        yield ""
    seeds = sorted({audit["seed"] for one in measured.values() for audit in one["audits"]})
    yield f"| group | model | threat | attack | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield f"| --- | --- | --- | --- | {'---: | ' * len(seeds)}".rstrip()
    for group in _groups(measured):
        for model, one in _members(group, measured):
            asked = {audit["seed"]: audit["checks"].get(name) for audit in one["audits"]}
            cells = " | ".join(_cell(asked.get(seed), check) for seed in seeds)
            yield f"| {group} | {model} | {one['norm']} {one['eps']} | {one['attack']} | {cells} |"


def _cell(found: list[Any] | None, check: Check) -> str:
    if found is None:
        return ""
    value, flag, *_ = found
    told = _shown(value, check) if value is not None else "no value" if flag else "not asked"
    return f"**{told}**, {'flag' if check.mandatory else 'note'}" if flag else told


def _shown(value: float, check: Check) -> str:
    return f"{100 * value:.3g} %" if check.unit.startswith("%") else f"{value:.3g}"


def _found(name: str, group: str, measured: dict[str, Any]) -> list[list[Any]]:
    """Return what the check found in every audit of a group in which it could be asked."""
    audits = [audit for one in measured.values() if one["group"] == group for audit in one["audits"]]
    found = [audit["checks"][name] for audit in audits if name in audit["checks"]]
    return [one for one in found if one[0] is not None or one[1]]


def _flags(name: str, group: str, measured: dict[str, Any]) -> str:
    found = _found(name, group, measured)
    return f"{sum(one[1] for one in found)} of {len(found)}"


def _values(name: str, measured: dict[str, Any]) -> dict[str, list[float]]:
    return {
        group: sorted(one[0] for one in _found(name, group, measured) if one[0] is not None and math.isfinite(one[0]))
        for group in _groups(measured)
    }


def _threshold(name: str, measured: dict[str, Any]) -> float | None:
    told = [audit["checks"][name][3] for one in measured.values() for audit in one["audits"] if name in audit["checks"]]
    return next((value for value in told if value is not None), None)


def _cost(probe: str, measured: dict[str, Any]) -> tuple[float, float, int] | None:
    """Return the median passes of a probe, those per image, and the number of audits; None where it saw nothing."""
    spent = [(audit["costs"].get(probe, 0), one["digits"]) for one in measured.values() for audit in one["audits"]]
    if not any(passes for passes, _ in spent):
        return None
    each = statistics.median(passes / n for passes, n in spent)
    return statistics.median(passes for passes, _ in spent), each, len(spent)


def _told_cost(name: str, check: Check, measured: dict[str, Any]) -> str:
    cost = _cost(check.probe, measured)
    told = "not asked in the calibration"
    if cost is not None:
        told = f"{cost[0]:,.0f} passes an audit, {cost[1]:.1f} an image (medians of {cost[2]} audits)"
    others = [other for other in CHECKS if other != name and CHECKS[other].probe == check.probe]
    links = ", ".join(f"[{other}]({Path(_page(other)).name})" for other in others)
    return told + (f"; the same evidence is read by {links}" if others else "")


def plot(name: str, measured: dict[str, Any]) -> str:
    """Return the plot of a check: a strip of dots for each group, and the threshold."""
    values, check = _values(name, measured), CHECKS[name]
    threshold = _threshold(name, measured)
    every = [value for dots in values.values() for value in dots] + ([threshold] if threshold is not None else [])
    low, high = min([0.0, *every]), max([1e-9, *every])
    height = TOP + ROW * len(values) + 2

    def place(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    box = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for at, (group, dots) in enumerate(values.items()):
        y = TOP + ROW * at
        colour = COLOURS.get(group) or OTHERS[(at - len(COLOURS)) % len(OTHERS)]
        parts.append(f'<text x="8" y="{y + 4}" fill="#333333">{group}</text>')
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#dddddd"/>')
        for i, value in enumerate(dots):
            # dots of equal value are spread over the strip
            shift = (i * 7) % 19 - 9
            where = f'cx="{place(value):.1f}" cy="{y + shift}"'
            parts.append(f'<circle {where} r="3.5" fill="{colour}" fill-opacity="0.55"/>')
    if threshold is not None:
        x = f"{place(threshold):.1f}"
        parts.append(f'<line x1="{x}" y1="14" x2="{x}" y2="{height - 20}" stroke="#333333" stroke-dasharray="4 3"/>')
    foot = height - 5
    parts += [
        f'<text x="{LEFT}" y="{foot}" fill="#666666">{_shown(low, check)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{foot}" fill="#666666" text-anchor="end">{_shown(high, check)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def written() -> dict[str, str]:
    """Return the text of every page and plot that is there, by its path below docs/."""
    there = [path for pattern in WRITTEN for path in DOCS.glob(pattern)]
    return {path.relative_to(DOCS).as_posix(): path.read_text() for path in there}


def main() -> None:
    """Write pages and plots, and remove those that no check has any more."""
    made = files(json.loads((DOCS / "audit" / "calibration.json").read_text()))
    for name in written().keys() - made.keys():
        (DOCS / name).unlink()
    (DOCS / "checks").mkdir(exist_ok=True)
    for name, text in made.items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
