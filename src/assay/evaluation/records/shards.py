"""Files of records: which chunks of a cell lie in which, read piece by piece in the order of the chunks.

`part-00007.parquet` holds chunk 7, `part-00000-00468.parquet` the chunks 0 to 468. A chunk that has a file of its own
and lies in a pack too is that of its own file: the pack is older, or holds the same.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.core.errors import BadInput
from assay.evaluation.planned import CERTIFYING
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.certificates import CERTIFICATE_SCHEMA
from assay.evaluation.records.schema import ADDED, SCHEMA

PIECE = 1 << 16
"""A piece has so many rows, or those of one chunk where these are more."""

_NAME = re.compile(r"part-(\d{5,})(?:-(\d{5,}))?\.parquet")
_TRIES = 5

# read as codes: their texts repeat
_CODED = ("cell", "model", "data", "attack", "threat", "eps_written", "unit", "question", "goal", "status", "stage",
          "certificate", "answer", "form", "edges")  # fmt: skip


def schema_of(cell: str) -> pa.Schema:
    """Return the columns of a cell's records (by its digest)."""
    return CERTIFICATE_SCHEMA if cell.startswith(CERTIFYING) else SCHEMA


@dataclasses.dataclass(frozen=True, order=True)
class Shard:
    """A file of records, and the chunks in it: `first` to `last`."""

    first: int
    last: int
    path: Path

    @property
    def packed(self) -> bool:
        """Whether it holds several chunks."""
        return self.last > self.first

    @property
    def chunks(self) -> range:
        """The chunks."""
        return range(self.first, self.last + 1)

    @property
    def schema(self) -> pa.Schema:
        """The columns it should have."""
        return schema_of(self.path.parent.name)

    def wrong(self, rows: int | None) -> str:
        """Say what is wrong with the file, "" where nothing is; `rows` is how many records it should have."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return NOT_THERE
        except OSError:
            return "is cut off or damaged"
        found, fault = _end(str(self.path), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if not fault and rows is not None and found != rows:
            return f"has {found} rows where {rows} are planned"
        return fault


NOT_THERE = "is not there"


@functools.lru_cache(maxsize=1 << 18)
def _end(path: str, *_: int) -> tuple[int, str]:
    """Return how many records a file has, by its end, and what is wrong with it: known while it stays the same file."""
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return 0, "is cut off or damaged"
    fits = _fits(found.schema.names, schema_of(Path(path).parent.name))
    return found.num_rows, "" if fits else "was written by another version"


def shard_name(first: int, last: int | None = None) -> str:
    """Return the name of the file of one chunk, or of all from `first` to `last`."""
    return f"part-{first:05d}.parquet" if last is None else f"part-{first:05d}-{last:05d}.parquet"


def shards_in(folder: Path) -> list[Shard]:
    """Return the files of records in a cell's folder, in order of their first chunk; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(folder / name, match) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(Shard(int(at[1]), int(at[2] or at[1]), path) for path, at in found)


def _fits(names: Sequence[str], schema: pa.Schema) -> bool:
    added = [name for name in ADDED if name not in names] if schema is SCHEMA else []
    return [*names, *added] == schema.names


@dataclasses.dataclass(frozen=True)
class _Part:
    # of a file the chunks from `first` to `last`
    shard: Shard
    first: int
    last: int

    @property
    def whole(self) -> bool:
        return (self.first, self.last) == (self.shard.first, self.shard.last)


def _parts(shards: Iterable[Shard], chunks: range) -> list[_Part]:
    """Return what to read of which file, so that every one of `chunks` comes once and in order.

    Of several files with a chunk the one of fewest chunks has it.
    """
    taken: list[_Part] = []
    for shard in sorted(shards, key=lambda one: (one.last - one.first, one)):
        at, last = max(shard.first, chunks.start), min(shard.last, chunks.stop - 1)
        for other in sorted((one for one in taken if one.last >= at), key=lambda one: one.first):
            if other.first > last:
                break
            if at < other.first:
                taken.append(_Part(shard, at, other.first - 1))
            at = max(at, other.last + 1)
        if at <= last:
            taken.append(_Part(shard, at, last))
    return sorted(taken, key=lambda one: one.first)


def pieces(
    folder: Path, columns: Sequence[str], *, coded: bool = False, only: range = range(1 << 60)
) -> Iterator[pa.Table]:
    """Yield the records of a cell's folder piece by piece, in order of the chunks; damaged files are left out.

    Of the chunks `only` those in a range.

    A piece has some `PIECE` rows. `coded` columns of texts that repeat are dictionaries. A file that is packed while
    one reads is looked for again. Raises `BadInput` for a file whose end is right and something before it is not.
    """
    left, tries, held = only, 0, _Held()
    while True:
        try:
            for part in _parts(shards_in(folder), left):
                for table in _read(part, columns, coded):
                    yield from held.add(table)
                left = range(part.last + 1, only.stop)
            break
        except FileNotFoundError:
            # packed meanwhile; it was opened before any of it was given out, so nothing comes twice
            tries += 1
            if tries > _TRIES:
                raise
    yield from held.rest()


class _Held:
    """Small tables, until there are enough for a piece."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows >= PIECE:
            yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        if self._rows:
            yield pa.concat_tables(self._tables)
        self._tables, self._rows = [], 0


def _read(part: _Part, columns: Sequence[str], coded: bool) -> Iterator[pa.Table]:
    shard, schema = part.shard, part.shard.schema
    codes = [name for name in columns if name in _CODED] if coded else []
    try:
        file = pq.ParquetFile(shard.path, read_dictionary=codes)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        return
    with file:
        there = file.schema_arrow.names
        if not _fits(there, schema):
            return
        asked = [name for name in columns if name in there]
        extra = [] if part.whole or "chunk" in asked else ["chunk"]
        try:
            # a file of one chunk is small; a pack comes by its groups of rows
            groups = [None] if not shard.packed else range(file.num_row_groups)
            for group in groups:
                if group is not None and not part.whole and not _meets(file, group, part):
                    continue
                read = file.read if group is None else lambda *a, at=group, **k: file.read_row_group(at, *a, **k)
                table: pa.Table = read([*asked, *extra], use_threads=False)
                yield _shaped(_within(table, part), columns, schema, codes)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(unreadable([shard.path], error)) from error


def _meets(file: Any, group: int, part: _Part) -> bool:
    """Whether a group of rows may hold chunks of a part: its statistics say so, or nothing is known."""
    chunk = file.schema_arrow.names.index("chunk")
    told = file.metadata.row_group(group).column(chunk).statistics
    return told is None or not told.has_min_max or not (told.max < part.first or told.min > part.last)


def _within(table: pa.Table, part: _Part) -> pa.Table:
    if part.whole:
        return table
    chunk = table["chunk"]
    return table.filter(pc.and_(pc.greater_equal(chunk, part.first), pc.less_equal(chunk, part.last)))


def _shaped(table: pa.Table, columns: Sequence[str], schema: pa.Schema, codes: Sequence[str]) -> pa.Table:
    """Return a table with these columns in their order, those that the file does not have yet as nulls."""
    fields = [schema.field(name) for name in columns]
    fields = [one.with_type(pa.dictionary(pa.int32(), pa.string())) if one.name in codes else one for one in fields]
    there = set(table.column_names)
    arrays = [table[one.name] if one.name in there else pa.nulls(table.num_rows, one.type) for one in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def unreadable(shards: Iterable[Path], error: Exception) -> str:
    """Say which file cannot be read: the end of it was right, and something before it is not."""
    for path in shards:
        try:
            pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError):
            first = str(error).strip().partition("\n")[0]
            return f"{path} is damaged ({first}). Delete it and run the study again: its samples are attacked again."
    return f"The records cannot be read: {error}."


__all__ = ["NOT_THERE", "PIECE", "Shard", "pieces", "schema_of", "shard_name", "shards_in", "unreadable"]
