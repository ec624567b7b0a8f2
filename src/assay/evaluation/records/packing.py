"""Many small files of records become few: equal in content and order, and nothing is lost by whoever is killed.

A pack is written whole before the files that it stands for go. Until they are gone they count, not the pack: they are
the same, or younger (chunks with errors that ran again), and then the next packing takes them in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.evaluation.planned import InChunks
from assay.evaluation.records.shards import Shard, pieces, schema_of, shard_name, shards_in
from assay.files import writing_atomically

MOST = 200
"""A cell that is not finished has so many files at most, besides those that are too far apart to be packed."""

MOST_OF_FINISHED = 50
"""A finished one has so many at most."""

_TOGETHER = 1000
_GROUP = 1 << 14


def parquet_options(schema: pa.Schema, statistics: Sequence[str] = ()) -> dict[str, Any]:
    """Return how records are written as Parquet, with `statistics` of some columns."""
    return {
        # a third of zstd's time for a quarter more bytes: shards are small, and many
        "compression": "snappy",
        "use_dictionary": [field.name for field in schema if pa.types.is_string(field.type)],
        "write_statistics": list(statistics) or False,
        "store_schema": False,
    }


def pack(folder: Path, cell: InChunks) -> int:
    """Pack the files in a cell's folder where they are many, and return how many are gone.

    Chunks that follow each other without a gap are packed in blocks. Raises `DiskError`, and `BadInput` for a damaged
    file.
    """
    shards = shards_in(folder)
    there = {chunk for shard in shards for chunk in shard.chunks}
    most = MOST_OF_FINISHED if len(there) >= cell.chunks else MOST
    twice = sum(len(shard.chunks) for shard in shards) > len(there)
    if len(shards) <= most and not twice:
        return 0
    gone = 0
    block = max(_TOGETHER, math.ceil(cell.chunks / MOST))
    for first in range(0, cell.chunks, block):
        last = min(first + block, cell.chunks) - 1
        mine = [shard for shard in shards if first <= shard.first and shard.last <= last]
        if len(mine) > 1 and last > first and _whole(mine, cell, first, last):
            gone += _packed(folder, mine, cell, (first, last))
    return gone


def _whole(shards: Sequence[Shard], cell: InChunks, first: int, last: int) -> bool:
    """Whether all chunks of a block are there, in files that are what they should be."""
    there = {chunk for shard in shards for chunk in shard.chunks}
    return len(there) == last - first + 1 and not any(shard.wrong(cell.rows_of(shard.chunks)) for shard in shards)


def _packed(folder: Path, shards: Sequence[Shard], cell: InChunks, block: tuple[int, int]) -> int:
    path, chunks = folder / shard_name(*block), range(block[0], block[1] + 1)
    schema, before = schema_of(cell.digest), [_state(shard.path) for shard in shards]
    with writing_atomically(path) as file:
        count = 0
        with pq.ParquetWriter(file, schema, **parquet_options(schema, ["chunk"])) as writer:
            for piece in pieces(folder, schema.names, only=chunks):
                writer.write_table(piece, row_group_size=_GROUP)
                count += piece.num_rows
        if count != cell.rows_of(chunks):
            raise RuntimeError(f"{count} records to be packed of {folder}, and {cell.rows_of(chunks)} are planned")
    # one that was written again meanwhile counts, and stays
    gone = [one for one, then in zip(shards, before, strict=True) if one.path != path and _state(one.path) == then]
    for shard in gone:
        shard.path.unlink(missing_ok=True)
    return len(gone)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
