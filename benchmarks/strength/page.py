"""The board as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.strength.board import OURS, Row
from benchmarks.strength.judge import Figures, weaker

HEAD = """# Strength board

Written by `make bench-strength`: our attacks and the references on the same models and images, with the options that
make a reference strongest at that number of steps. Forwards and backwards are rows that went through the model per
attacked image, counted by hooks on it for everyone; seconds are CPU time of one thread, so that they compare on a busy
machine too (they stray by a tenth or two). Ours is **weaker** where more images survive, fewer are broken, the median
distance is above 1.005 times the best reference's, or the mean number of queries (failures count as all they could
spend) above 1.05 times. Where one random start decides about single images, figures are means over the seeds named, and
ours is weaker where more survive by over two standard errors of the difference.
"""


def standing(row: Row, results: Mapping[str, Any]) -> str:
    """Return "" where ours holds, or else how it is weaker, or what is missing."""
    own = results.get(row.ours.name)
    if own is None or "absent" in own or "failed" in own:
        return "ours has not run" if own is None else str(own.get("absent") or own["failed"])
    peers = [one.name for one in row.peers if measured(results.get(one.name))]
    # one on fewer images shows its own line, but figures over other images prove nothing
    same = {name: Figures.read(results[name]) for name in peers if results[name]["images"] == own["images"]}
    return weaker(row, Figures.read(own), same)


def measured(result: Mapping[str, Any] | None) -> bool:
    """Return whether there are figures: the contender ran, and did not fail."""
    return result is not None and "robust" in result


def tried(result: Mapping[str, Any] | None) -> bool:
    """Return whether a contender ran, even if it failed: an attack that is not there yet did not."""
    return result is not None and "absent" not in result


def lines_of(row: Row, results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a row, ours first."""
    present = [one for one in row.contenders if one.name in results]
    for contender in present:
        result = results[contender.name]
        ours = contender.library == OURS
        mark = standing(row, results) if ours and measured(result) else ""
        first = row.name if contender is present[0] else ""
        if not measured(result):
            said = result.get("absent") or f"failed: {result['failed']}"
            yield f"| {first} | {contender.name} | {said} | | | | |"
            continue
        passes = f"{result['forwards']:,.0f} | {result['backwards']:,.0f} | {result['cpu']:,.0f}"
        notes = [f"**weaker**: {mark}"] if mark else []
        notes += [_time(row, results)] if ours else []
        notes += [] if row.reportable or not ours else ["not reportable: 20 pictures"]
        notes += ["counts differ from the hooks'"] if result.get("counts agree") is False else []
        shown = Figures.read(result).written(row)
        yield f"| {first} | {contender.name} | {shown} | {passes} | {'; '.join(filter(None, notes))} |"


def _time(row: Row, results: Mapping[str, Any]) -> str:
    own = results[row.ours.name]
    others = [results[one.name] for one in row.peers if measured(results.get(one.name))]
    seconds = [one["cpu"] for one in others if one["images"] == own["images"]]
    return f"{own['cpu'] / min(seconds):.2f} of the fastest reference's seconds" if seconds else ""


def page(rows: Mapping[str, Row], kept: Mapping[str, Any]) -> str:
    """Return the whole board: first what is weaker, then every row by model."""
    here = {name: row for name, row in rows.items() if name in kept and kept[name]["results"]}
    bad = {name: said for name, row in here.items() if (said := standing(row, kept[name]["results"]))}
    ran = {name for name, row in here.items() if tried(kept[name]["results"].get(row.ours.name))}
    parts = [HEAD, f"{len(ran)} of {len(rows)} rows have run; ours holds in {len(ran - set(bad))} of them.\n"]
    parts += ["".join(f"- {name}: {said}\n" for name, said in bad.items() if name in ran)]
    table = "| row | contender | result | forwards | backwards | CPU s | |\n|---|---|---|---:|---:|---:|---|\n"
    for model in dict.fromkeys(row.subject for row in here.values()):
        lines = [
            line for name, row in here.items() if row.subject == model
            for line in lines_of(row, kept[name]["results"])
        ]  # fmt: skip
        parts.append(f"## {model}\n\n{table}" + "\n".join(lines) + "\n")
    return "\n".join(part for part in parts if part)
