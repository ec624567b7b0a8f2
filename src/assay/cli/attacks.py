"""`assay attacks`: the table of attacks, and the options of one."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from assay.cli.console import out, write


def attacks(
    name: Annotated[str | None, typer.Argument(help="An attack, to see its options.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the reference page of them all.")] = False,
) -> None:
    """List the attacks, or the options of one."""
    from assay.attacks import build
    from assay.evaluation.study.attacks import STUDY_ATTACKS

    if name is not None and name not in STUDY_ATTACKS:
        build(name)
    listed = {key: _facts(key, entry) for key, entry in STUDY_ATTACKS.items() if name in (None, key)}
    if as_page:
        from assay.report.attack_page import attack_page

        write(attack_page())
    elif as_json:
        write(json.dumps(listed, indent=2))
    elif name is not None:
        _one(name, listed[name])
    else:
        _all(listed)


def _facts(name: str, entry: Any) -> dict[str, Any]:
    from assay.evaluation.study.attacks import general_options

    options = {option: default for option, default in entry.options.items() if option != "keeps"}
    return {
        "summary": entry.summary,
        "family": entry.family,
        "norms": list(entry.norms),
        "needs": entry.access.name.lower(),
        "paper": entry.paper,
        "version": entry.version,
        "options": {**options, **{key: value for key, value in general_options(name).items() if key not in options}},
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


def _one(name: str, facts: dict[str, Any]) -> None:
    console = out()
    console.print(f"{name}: {facts['summary']} ({facts['paper']}); norms: {', '.join(facts['norms'])}", soft_wrap=True)
    for option, default in facts["options"].items():
        console.print(f"  {option} = {default}", markup=False)
    option, default = next(pair for pair in facts["options"].items())
    value = "PATCH.safetensors" if option == "file" else default
    console.print(f"Example: --attack {name}:{option}={value}", markup=False, soft_wrap=True)
