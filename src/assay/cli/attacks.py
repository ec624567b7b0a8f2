"""`assay attacks`: the table of attacks, and the options of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import out, write

if TYPE_CHECKING:
    from assay.attacks import AttackEntry


def attacks(
    name: Annotated[str | None, typer.Argument(help="An attack, to see its options.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the reference page of them all.")] = False,
) -> None:
    """List the attacks, or the options of one."""
    from assay.core.errors import BadInput, did_you_mean
    from assay.evaluation.study.attacks import STUDY_ATTACKS

    if name is not None and name not in STUDY_ATTACKS:
        raise BadInput(f"Unknown attack {name!r}.{did_you_mean(name, STUDY_ATTACKS)}  (assay attacks lists them)")
    listed = {key: _facts(entry) for key, entry in STUDY_ATTACKS.items() if name in (None, key)}
    if as_page:
        from assay.report.attack_page import attack_page

        write(attack_page())
    elif as_json:
        write(json.dumps(listed, indent=2))
    elif name is not None:
        _one(name, STUDY_ATTACKS[name])
    else:
        _all(listed)


def _facts(entry: AttackEntry) -> dict[str, Any]:
    return {
        "summary": entry.summary,
        "family": entry.family,
        "norms": list(entry.norms),
        "needs": entry.access.name.lower(),
        "paper": entry.paper,
        "paper_id": entry.paper_id,
        "version": entry.version,
        "options": {option: one.default for option, one in entry.all_options.items()},
        "details": {option: one.plain() for option, one in entry.all_options.items()},
    }


def _all(listed: dict[str, dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("attack", "norms", "needs", "what it does", "source", box=box.SIMPLE_HEAD)
    for name, facts in listed.items():
        table.add_row(name, " ".join(facts["norms"]), facts["needs"], facts["summary"], facts["paper"])
    console = out()
    console.print(table)
    console.print("assay attacks NAME lists its options; write them as NAME:option=value,option=value.")


def _one(name: str, entry: AttackEntry) -> None:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    console = out()
    source = f"{entry.paper}, arXiv:{entry.paper_id}" if entry.paper_id else entry.paper
    console.print(f"{name}: {entry.summary} ({source}); norms: {', '.join(entry.norms)}", soft_wrap=True)
    table = Table(Column("option", no_wrap=True), "values", "unit", "what it is", box=box.SIMPLE_HEAD)
    for option, one in entry.all_options.items():
        table.add_row(*map(Text, (f"{option} = {one.default_text}", one.values, one.unit, one.help)))
    console.print(table)
    option, one = next(iter(entry.all_options.items()))
    value = "PATCH.safetensors" if option == "file" else one.default_text
    console.print(f"Example: --attack {name}:{option}={value}", markup=False, soft_wrap=True)
