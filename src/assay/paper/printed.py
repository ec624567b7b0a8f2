"""The numbers that Sen et al. 2023 print, table by table, and what is wrong with them, as data."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from assay.core.errors import BadInput, did_you_mean


@dataclasses.dataclass(frozen=True)
class PrintedRow:
    """A line of a table: one value per column, and the classes they belong to where the table names any."""

    name: str
    values: tuple[float, ...]
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PrintedTable:
    """A table as printed. Values are in `unit` ("percent" or "fraction"); `axis` says what the columns are."""

    number: str
    title: str
    unit: str
    axis: str
    columns: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    errata: tuple[str, ...]


@functools.cache
def printed_tables() -> Mapping[str, PrintedTable]:
    """Return all tables by their Roman number, in order."""
    text = (files("assay.paper") / "printed.json").read_text("utf-8")
    return {number: _table(number, raw) for number, raw in json.loads(text).items()}


def _table(number: str, raw: Mapping[str, Any]) -> PrintedTable:
    rows = [PrintedRow(row["name"], tuple(row["values"]), tuple(row.get("labels", ()))) for row in raw["rows"]]
    return PrintedTable(
        number=number,
        title=raw["title"],
        unit=raw["unit"],
        axis=raw["axis"],
        columns=tuple(raw["columns"]),
        rows=tuple(rows),
        errata=tuple(raw["errata"]),
    )


def printed_table(number: str) -> PrintedTable:
    """Return one table. Raises `BadInput` for a number that none has."""
    return printed_tables()[table_number(number)]


def errata() -> dict[str, tuple[str, ...]]:
    """Return facts about the printed text by table."""
    return {number: table.errata for number, table in printed_tables().items()}


def table_number(words: str) -> str:
    """Return a table's Roman number as the user may write it: `IV`, `iv`, `4`, `Table IV`."""
    known = list(printed_tables())
    text = re.sub(r"^table[\s-]*", "", words.strip(), flags=re.IGNORECASE).upper()
    if text.isdecimal() and 1 <= int(text) <= len(known):
        return known[int(text) - 1]
    if text in known:
        return text
    near = did_you_mean(text, known)
    raise BadInput(f"There is no table {words!r}.{near} The paper has Tables {known[0]} to {known[-1]}.")


def in_order(numbers: Iterable[str]) -> list[str]:
    """Return table numbers in the paper's order, each once."""
    wanted = {table_number(number) for number in numbers}
    return [number for number in printed_tables() if number in wanted]
