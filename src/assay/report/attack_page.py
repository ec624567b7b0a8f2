"""The reference page of the attacks, written from the table: `docs/attacks.md`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from assay.attacks import ATTACKS, FAMILIES, GOALS, AttackEntry
from assay.core.compose import for_norm, is_attack

_OPENING = """# Attacks

What `assay attacks` lists, family by family. Every attack runs through the same loop: the same counting of passes, the
same early stop, the same verdict in float32 inside budget and box. `needs` is what an attack must see of the model:
its labels, its scores, or gradients. An option is written `--attack NAME:option=value`; `restarts=N` repeats any of
them from other random numbers on the samples still standing. Those that need gradients also take `eot=N`,
`averaged=N` and `diversity=P`, and all of them `surrogate=MODEL`: see
[transfer, averaged gradients, BPDA](transfer.md).
"""

_ABOUT = {
    "gradient": "Climb an objective inside a budget. What to run first, and what most published numbers are.",
    "minimum norm": "Look for the smallest change that succeeds: one run gives the whole curve over budgets.",
    "score": "Ask for scores alone, query by query: for models whose gradients are not to be had or not to be trusted.",
    "label": "Ask for the label alone.",
    "transfer": "Made to fool models other than the one they are made on.",
    "composition": "Several attacks as one, each on the samples that the ones before left standing.",
    "baseline": "What knows nothing of the model: every attack must beat them.",
}


def attack_page() -> str:
    """Return the page as Markdown."""
    parts = [_OPENING]
    for family in FAMILIES:
        mine = {name: entry for name, entry in ATTACKS.items() if entry.family == family}
        if not mine:
            continue
        rows = [_row("attack", "norms", "needs", "goals", "what it does", "source"), _row(*["---"] * 6)]
        rows += [_line(name, entry) for name, entry in mine.items()]
        parts += [f"## {family.capitalize()}\n", _ABOUT[family] + "\n", "\n".join(rows) + "\n"]
        parts += [_section(name, entry) for name, entry in mine.items()]
    return "\n".join(parts)


def _line(name: str, entry: AttackEntry) -> str:
    goals = "all" if entry.goals == GOALS else ", ".join(entry.goals)
    return _row(
        f"[`{name}`](#{name})", " ".join(entry.norms), entry.access.name.lower(), goals, entry.summary, entry.paper
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _section(name: str, entry: AttackEntry) -> str:
    given = {option: value for option, value in entry.options.items() if option != "keeps"}
    written = [f"`{option}={_default(value)}`" + _words(entry, option) for option, value in given.items()]
    options = f"\nOptions: {', '.join(written)}.\n" if written else "\nNo options.\n"
    return f"### {name}\n\n{_about(entry.make, entry.norms)}\n{options}"


def _words(entry: AttackEntry, option: str) -> str:
    return f" ({', '.join(entry.choices[option])})" if option in entry.choices else ""


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "its own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _about(make: Any, norms: Sequence[str]) -> str:
    """Return what a function or a class says of itself; of a method per norm, what each of its attacks says too."""
    told = [make.func if isinstance(make, partial) else make]
    method = make()
    each = [for_norm(method, norm) for norm in norms]
    told += [type(one) for one in each if one is not method and is_attack(one)]
    texts = [inspect.getdoc(one) or "" for one in dict.fromkeys(told)]
    # what Markdown would read as markup
    return "\n\n".join(texts).replace("<", "&lt;").replace("*", "\\*")
