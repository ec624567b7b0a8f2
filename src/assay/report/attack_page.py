"""The reference page of the attacks, written from the table: `docs/attacks.md`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from assay.attacks import FAMILIES, GOALS, AttackEntry
from assay.attacks.options import Kind, Option
from assay.core.compose import for_norm, is_attack
from assay.core.objective import OBJECTIVES
from assay.evaluation.study.attacks import STUDY_ATTACKS

_OPENING = """# Attacks

What `assay attacks` lists, family by family. Every attack runs through the same loop: the same counting of passes, the
same early stop, the same verdict in float32 inside budget and box. `needs` is what an attack must see of the model:
its labels, its scores, or gradients. An option is written `--attack NAME:option=value`, or in a study beside the name,
`{attack: NAME, option: value}`; `assay attacks NAME` prints those of one attack. More on surrogates and on gradients
that are means: [transfer, averaged gradients, BPDA](transfer.md).
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


_EVERY = """## Options of every attack

Beside its own options an attack takes these; the first four are for attacks that need gradients, and `smallest` for
those that do not look for the smallest change by themselves. Attacks that a file holds take none of them.

An objective is one of these, or `cross_entropy/T`, the cross-entropy of logits divided by T:
{objectives}.
"""


def attack_page() -> str:
    """Return the page as Markdown."""
    objectives = textwrap.fill(", ".join(f"`{name}`" for name in OBJECTIVES), 120)
    # an attack that takes them all
    general = STUDY_ATTACKS["pgd"].general
    parts = [_OPENING, _EVERY.format(objectives=objectives), "\n".join(options_table(general)) + "\n"]
    for family in FAMILIES:
        mine = {name: entry for name, entry in STUDY_ATTACKS.items() if entry.family == family}
        if not mine:
            continue
        rows = [row("attack", "norms", "needs", "goals", "what it does", "source"), row(*["---"] * 6)]
        rows += [_line(name, entry) for name, entry in mine.items()]
        parts += [f"## {family.capitalize()}\n", _ABOUT[family] + "\n", "\n".join(rows) + "\n"]
        parts += [_section(name, entry) for name, entry in mine.items()]
    return "\n".join(parts)


def _line(name: str, entry: AttackEntry) -> str:
    goals = "all" if entry.goals == GOALS else ", ".join(entry.goals)
    source = f"[{entry.paper}](https://arxiv.org/abs/{entry.paper_id})" if entry.paper_id else entry.paper
    return row(f"[`{name}`](#{name})", " ".join(entry.norms), entry.access.name.lower(), goals, entry.summary, source)


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def _section(name: str, entry: AttackEntry) -> str:
    options = "\n".join(options_table(entry.options)) if entry.options else "No options of its own."
    return f"### {name}\n\n{_about(entry)}\n\n{options}\n"


def options_table(options: Mapping[str, Option]) -> Iterator[str]:
    """Yield the lines of a table of options."""
    yield row("option and default", "values", "unit", "what it is")
    yield row(*["---"] * 4)
    for name, one in options.items():
        values = "an objective" if one.kind is Kind.OBJECTIVE else one.values
        yield row(f"`{name}={one.default_text}`", values, one.unit, one.help)


def _about(entry: AttackEntry) -> str:
    """Return what a function or a class says of itself; of a method per norm, what each of its attacks says too."""
    make = entry.make
    told: list[Any] = [make.func if isinstance(make, partial) else make]
    if not entry.file:
        method = make()
        each = [for_norm(method, norm) for norm in entry.norms]
        told += [type(one) for one in each if one is not method and is_attack(one)]
    return "\n\n".join(docstring(one) for one in dict.fromkeys(told))


def docstring(thing: object) -> str:
    """Return what a thing says of itself, without what Markdown would read as markup."""
    return (inspect.getdoc(thing) or "").replace("<", "&lt;").replace("*", "\\*")
