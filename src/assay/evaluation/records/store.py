"""The store: Parquet shards, one per cell and chunk, or packed. Done means the shard is there with the planned rows."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from assay.core.errors import BadInput
from assay.evaluation.planned import CERTIFYING, InChunks
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.packing import pack, parquet_options
from assay.evaluation.records.schema import ERROR
from assay.evaluation.records.shards import NOT_THERE, pieces, schema_of, shard_name, shards_in
from assay.files import in_words, remove_unfinished, write_atomically

if TYPE_CHECKING:
    from assay.evaluation.cell import Unit

RESULTS, CERTIFICATES = "results", "certificates"
RETIRED, DAMAGED, GALLERY = "retired", "damaged", "gallery"

_LOOKS = 5


def _home(cell: str) -> str:
    # a certificate's records are of another kind, and lie apart
    return CERTIFICATES if cell.startswith(CERTIFYING) else RESULTS


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A shard that cannot be used, and why; `chunks` are those that it is of."""

    path: Path
    wrong: str
    chunks: range


@dataclasses.dataclass(frozen=True)
class Store:
    """The records of a run directory.

    `results/<cell>/part-<chunk>.parquet` (of many chunks `part-<first>-<last>.parquet`) holds exactly the cells of the
    study as it stands, `certificates/` in the same way those that are certificates; a cell that the study no longer has
    rests in `retired/`, and comes back if the study does.
    """

    folder: Path

    def shard(self, cell: str, chunk: int) -> Path:
        """Return where a chunk's records are."""
        return self._cell(cell) / shard_name(chunk)

    def _cell(self, cell: str) -> Path:
        return self.folder / _home(cell) / cell

    def pictures(self, cell: str, chunk: int) -> Path:
        """Return where a chunk's pictures are."""
        return self.folder / GALLERY / f"{cell}-{chunk}.safetensors"

    def write(self, unit: Unit, table: pa.Table) -> None:
        """Write a unit's records; afterwards it is done. Raises `DiskError`."""
        schema = schema_of(unit.cell.digest)
        if table.num_rows != unit.rows or table.schema != schema:
            raise ValueError(f"{table.num_rows} records of {table.schema} for {unit.rows} planned rows")
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **parquet_options(schema))
        write_atomically(self.shard(unit.cell.digest, unit.chunk), memoryview(sink.getvalue()))

    def put(self, unit: Unit, table: pa.Table, pictures: bytes) -> None:
        """Write a unit's records, and before them its pictures where it has any. Raises `DiskError`."""
        if pictures:
            write_atomically(self.pictures(unit.cell.digest, unit.chunk), pictures)
        self.write(unit, table)

    def done(
        self, cells: Iterable[InChunks], only: Mapping[str, Iterable[int]] | None = None
    ) -> tuple[dict[str, set[int]], list[Damaged]]:
        """Return the finished chunks per cell, and the shards that are there but cannot be used.

        `only` names the chunks to look at, by the digest of their cell; without it all are looked at.
        """
        done: dict[str, set[int]] = {}
        damaged: list[Damaged] = []
        for cell in cells:
            finished, faults = self._looked_at(cell, None if only is None else set(only[cell.digest]))
            for _ in range(_LOOKS):
                if all(one.wrong != NOT_THERE for one in faults):
                    break
                # packed while one looked
                finished, faults = self._looked_at(cell, None if only is None else set(only[cell.digest]))
            done[cell.digest] = finished
            damaged += faults
        return done, damaged

    def _looked_at(self, cell: InChunks, only: set[int] | None) -> tuple[set[int], list[Damaged]]:
        finished: set[int] = set()
        faults = []
        for shard in shards_in(self._cell(cell.digest)):
            chunks = set(shard.chunks) if only is None else only.intersection(shard.chunks)
            if shard.last >= cell.chunks or not chunks:
                continue
            wrong = shard.wrong(cell.rows_of(shard.chunks))
            if wrong:
                faults.append(Damaged(shard.path, wrong, shard.chunks))
            else:
                finished |= chunks
        return finished, faults

    def put_aside(self, damaged: Damaged) -> str:
        """Move a damaged shard out of the results, and return what was done in words."""
        aside = self.folder / DAMAGED / f"{damaged.path.parent.name}-{damaged.path.name}"
        _move(damaged.path, aside)
        return f"{damaged.path} {damaged.wrong}; moved to {aside}, and its samples run again."

    def compact(self, cell: InChunks) -> int:
        """Pack a cell's shards where they are many, and return how many files are gone.

        Records and their order stay; whoever reads or is killed meanwhile loses nothing. Raises `DiskError`, and
        `BadInput` for a damaged shard.
        """
        return pack(self._cell(cell.digest), cell)

    def pieces(self, cells: Iterable[str], columns: Sequence[str], *, coded: bool = False) -> Iterator[pa.Table]:
        """Yield the records of some cells, a bounded number at a time, in order of cell and chunk.

        No piece holds records of two cells. `coded`: texts that repeat come as dictionaries. Damaged shards are left
        out. Raises `BadInput` for a shard that is damaged before its end.
        """
        for cell in cells:
            yield from pieces(self._cell(cell), columns, coded=coded)

    def read(self, cells: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the records of some cells of one kind, in order of cell and chunk; damaged shards are left out."""
        whole = schema_of(cells[0] if cells else "")
        schema = whole if columns is None else pa.schema([whole.field(name) for name in columns])
        found = list(self.pieces(cells, schema.names))
        return pa.concat_tables(found) if found else schema.empty_table()

    def count(self, cells: Iterable[str]) -> int:
        """Return how many records some cells have."""
        return sum(table.num_rows for table in self.pieces(cells, ["chunk"]))

    def state(self, cells: Sequence[str]) -> tuple[tuple[str, int, int, int], ...]:
        """Return which shards of some cells are there, and what changes when one is written again."""
        found = []
        for shard in (shard for cell in cells for shard in shards_in(self._cell(cell))):
            with contextlib.suppress(FileNotFoundError):
                stat = shard.path.stat()
                found.append((str(shard.path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def chunk(self, cell: str, chunk: int, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a finished chunk's records. Raises `BadInput` for a damaged shard."""
        found = list(pieces(self._cell(cell), columns, only=range(chunk, chunk + 1)))
        if not found:
            fix = "Run the study again: its samples are attacked again."
            raise BadInput(f"{self.shard(cell, chunk)} is damaged or not there. {fix}")
        return pa.concat_tables(found)

    def erroneous(self, cell: InChunks, chunks: Iterable[int]) -> set[int]:
        """Return the chunks of a cell that hold error records."""
        wanted, column = set(chunks), "answer" if cell.digest.startswith(CERTIFYING) else "status"
        found: set[int] = set()
        for table in self.pieces([cell.digest], ["chunk", column]):
            failed = table.filter(pc.equal(table[column], ERROR))
            found.update(pc.unique(failed["chunk"]).to_pylist())
        return found & wanted

    def cells(self) -> set[str]:
        """Return the digests of the cells that have shards here, retired ones too."""
        folders = [self.folder / name for name in (RESULTS, CERTIFICATES, RETIRED)]
        return {path.name for folder in folders for path in folder.glob("*") if shards_in(path)}

    def keep_only(self, cells: Iterable[InChunks]) -> list[str]:
        """Retire the cells that are not in `cells`, bring back those that are; return the newly retired."""
        planned = {cell.digest for cell in cells}
        retired = self.folder / RETIRED
        there = [path for home in (RESULTS, CERTIFICATES) for path in (self.folder / home).glob("*") if path.is_dir()]
        leaving = [path.name for path in there if path.name not in planned]
        for name in leaving:
            _move(self.folder / _home(name) / name, retired / name)
        for name in planned:
            back = self.folder / _home(name) / name
            if (retired / name).is_dir() and not back.exists():
                _move(retired / name, back)
        return leaving

    def take_from(self, other: Store, cells: Iterable[InChunks]) -> int:
        """Link or copy another store's finished shards of `cells` into this one; return how many."""
        taken = 0
        for cell in cells:
            here, there = self._cell(cell.digest), shards_in(other._cell(cell.digest))
            known = {chunk for shard in shards_in(here) for chunk in shard.chunks}
            # a chunk that ran again has a file of its own, and is not that of the pack
            for shard in sorted(there, key=lambda one: len(one.chunks)):
                if not known.issuperset(shard.chunks):
                    _link(shard.path, here / shard.path.name)
                    taken += len(set(shard.chunks) - known)
                    known.update(shard.chunks)
            for chunk in (chunk for shard in there for chunk in shard.chunks):
                source, target = other.pictures(cell.digest, chunk), self.pictures(cell.digest, chunk)
                if source.exists() and not target.exists():
                    _link(source, target)
        return taken

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        for name in (RESULTS, CERTIFICATES, GALLERY):
            remove_unfinished(self.folder / name)
        for path in self.folder.glob(".writing-*"):
            path.unlink(missing_ok=True)


def to_bytes(table: pa.Table) -> bytes:
    """Return records as the bytes of an Arrow stream, for another process; `from_bytes` reads them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    """Return the records of an Arrow stream."""
    return pa.ipc.open_stream(content).read_all()


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)
    except OSError as error:
        raise in_words(error, target) from error


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            write_atomically(target, source.read_bytes())
    except OSError as error:
        raise in_words(error, target) from error
