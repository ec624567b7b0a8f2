"""Tables as files: comma-separated, tab-separated, Parquet and JSON Lines, all as columns of text."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput

_FORMATS = ".csv, .tsv, .parquet, .jsonl"


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a file. `first` is the number that people give to row 0: its line, where the file has lines."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.rows)

    def text(self, column: str, row: int) -> str:
        """Return a value as text, without spaces around it; "" where there is none."""
        value = self.rows[row].get(column)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, bool):
            return str(int(value))
        return str(value).strip()

    def places(self, rows: Sequence[int]) -> str:
        """Return the lines of some rows, in words."""
        return (
            f"line {self.lines[rows[0]]}" if len(rows) == 1 else f"lines {', '.join(str(self.lines[r]) for r in rows)}"
        )


def read_table(path: Path) -> Table:
    """Return the table in a file. Raises `BadInput` for an unknown ending, a damaged file, and one without rows."""
    end = path.suffix.lower()
    try:
        if end in (".csv", ".tsv", ".txt"):
            found = _separated(path)
        elif end in (".jsonl", ".ndjson", ".json"):
            found = _json_lines(path)
        elif end in (".parquet", ".pq"):
            found = _parquet(path)
        else:
            raise BadInput(f"{path.name} ends in {end or 'nothing'}; expected a table: {_FORMATS}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The table {path} cannot be read: {error}.") from error
    if not found.rows:
        raise BadInput(f"The table {path} has no rows below its header.")
    return found


def _separated(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=_delimiter(path, head), restkey=None)
        columns = tuple(reader.fieldnames or ())
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise BadInput(f"{path.name} has two columns called {twice!r}. Rename one.")
        rows, lines = [], []
        for row in reader:
            if None in row:
                raise BadInput(f"Line {reader.line_num} of {path.name} has more values than the header has columns.")
            rows.append(row)
            lines.append(reader.line_num)
    return Table(path, columns, tuple(rows), tuple(lines))


def _delimiter(path: Path, head: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=head.count)


def _json_lines(path: Path) -> Table:
    rows, lines = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"Line {number} of {path.name} is no JSON: {error}. Write one object per line.") from error
        if not isinstance(row, dict):
            raise BadInput(f"Line {number} of {path.name} is {type(row).__name__}; expected one object per line.")
        rows.append(row)
        lines.append(number)
    columns = dict.fromkeys(str(key) for row in rows for key in row)
    return Table(path, tuple(columns), tuple(rows), tuple(lines))


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise BadInput(f"The table {path} cannot be read: {error}.") from error
    rows = tuple(table.to_pylist())
    return Table(path, tuple(table.column_names), rows, tuple(range(1, len(rows) + 1)))
