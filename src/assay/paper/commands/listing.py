"""What `assay paper list` shows: every table and figure, its cost, and what is measured already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.console.output import out as console_out
from assay.console.output import write


def facts(out: Path) -> dict[str, Any]:
    """Return what is known of every table and figure, as plain values."""
    from assay.paper.tables import FIGURES, PROTOCOLS, printed_tables

    tables = [_table(out, number, printed_tables()[number].title) for number in PROTOCOLS]
    figures = [{"figure": number, "shows": shows, "tables": list(of)} for number, (shows, of) in FIGURES.items()]
    return {"tables": tables, "figures": figures}


def _table(out: Path, number: str, title: str) -> dict[str, Any]:
    from assay.paper.forecast import rough
    from assay.paper.measured import opened
    from assay.paper.runs import directory_of
    from assay.paper.tables import PROTOCOLS

    how = PROTOCOLS[number]
    modes = {}
    for mode, name in how.studies.items():
        costs = [rough(one) for one in how.names(mode)]
        there = {}
        for stand_in in (False, True)[: 2 if how.needs_imagenet else 1]:
            directory = directory_of(out, name, stand_in)
            found = opened(directory)
            if found is not None:
                there["stand_in" if stand_in else "measured"] = {"directory": str(directory), "status": found.status}
        modes[mode] = {
            "study": name, "images": costs[0].images, "forwards": sum(cost.forwards for cost in costs),
            "backwards": sum(cost.backwards for cost in costs), **there,
        }  # fmt: skip
    data = "imagenet" if how.needs_imagenet else "mnist/test"
    return {"table": number, "title": title, "networks": list(how.networks), "data": data, "modes": modes}


def print_facts(found: dict[str, Any], out: Path) -> None:
    """Print it as two tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("table", "what it measures", "networks", "data", "mode"):
        table.add_column(title, overflow="fold")
    for title in ("images", "forwards", "backwards"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(str(out), overflow="fold")
    for one in found["tables"]:
        for i, (words, mode) in enumerate(_modes(one["modes"])):
            first = (one["table"], one["title"], ", ".join(one["networks"]), one["data"])
            numbers = [f"{mode[name]:,}" for name in ("images", "forwards", "backwards")]
            table.add_row(*map(Text, (*(first if i == 0 else [""] * 4), words, *numbers, _there(mode))))
    console_out().print(table)
    figures = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("figure", "what it shows", "from tables"):
        figures.add_column(title)
    for one in found["figures"]:
        figures.add_row(*map(Text, (one["figure"], one["shows"], ", ".join(one["tables"]))))
    console_out().print(figures)
    write(
        "Passes are an upper bound, training of patches included. Two tables of patches are counted from one run.\n"
        "Begin with    assay paper run --table XIII                  nothing to download but MNIST\n"
        "              assay paper run --table IV --imagenet DIR\n"
        "              assay paper run --table IV --stand-in         needs nothing, not comparable"
    )


def _modes(modes: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the lines of a table: one where both modes are one study."""
    if len({mode["study"] for mode in modes.values()}) == 1:
        return [("both", next(iter(modes.values())))]
    return [(name.replace("_", " "), mode) for name, mode in modes.items()]


def _there(mode: dict[str, Any]) -> str:
    told = []
    for kind, words in (("measured", ""), ("stand_in", "stand-in ")):
        if kind in mode:
            status = mode[kind]["status"]
            told.append(words + ("done" if status == "success" else f"not finished ({status})"))
    return ", ".join(told) or "–"
