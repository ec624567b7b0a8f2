"""The store: one Parquet shard per cell and chunk. Done means the shard is there with the planned rows."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from assay.core.errors import BadInput
from assay.evaluation.cell import CERTIFYING, Cell, Unit
from assay.evaluation.records.arrow import compute as pc
from assay.evaluation.records.certificates import CERTIFICATE_SCHEMA
from assay.evaluation.records.schema import ADDED, ERROR, SCHEMA
from assay.files import in_words, remove_unfinished, write_atomically

RESULTS, CERTIFICATES = "results", "certificates"
RETIRED, DAMAGED, GALLERY = "retired", "damaged", "gallery"


def _home(cell: str) -> str:
    # a certificate's records are of another kind, and lie apart
    return CERTIFICATES if cell.startswith(CERTIFYING) else RESULTS


def _schema(cell: str) -> pa.Schema:
    return CERTIFICATE_SCHEMA if cell.startswith(CERTIFYING) else SCHEMA


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A shard that cannot be used, and why."""

    path: Path
    wrong: str


@dataclasses.dataclass(frozen=True)
class Store:
    """The records of a run directory.

    `results/<cell>/part-<chunk>.parquet` holds exactly the cells of the study as it stands, `certificates/` in the same
    way those that are certificates; a cell that the study no longer has rests in `retired/`, and comes back if the
    study does.
    """

    folder: Path

    def shard(self, cell: str, chunk: int) -> Path:
        """Return where a chunk's records are."""
        return self.folder / _home(cell) / cell / f"part-{chunk:05d}.parquet"

    def pictures(self, cell: str, chunk: int) -> Path:
        """Return where a chunk's pictures are."""
        return self.folder / GALLERY / f"{cell}-{chunk}.safetensors"

    def write(self, unit: Unit, table: pa.Table) -> None:
        """Write a unit's records; afterwards it is done. Raises `DiskError`."""
        schema = _schema(unit.cell.digest)
        if table.num_rows != unit.rows or table.schema != schema:
            raise ValueError(f"{table.num_rows} records of {table.schema} for {unit.rows} planned rows")
        sink = pa.BufferOutputStream()
        # the stubs know the switch alone, not the list of columns
        dictionaries: Any = [field.name for field in schema if pa.types.is_string(field.type)]
        # a third of zstd's time for a quarter more bytes: shards are small, and many
        pq.write_table(
            table, sink, compression="snappy", use_dictionary=dictionaries, write_statistics=False, store_schema=False
        )
        write_atomically(self.shard(unit.cell.digest, unit.chunk), memoryview(sink.getvalue()))

    def put(self, unit: Unit, table: pa.Table, pictures: bytes) -> None:
        """Write a unit's records, and before them its pictures where it has any. Raises `DiskError`."""
        if pictures:
            write_atomically(self.pictures(unit.cell.digest, unit.chunk), pictures)
        self.write(unit, table)

    def done(
        self, cells: Iterable[Cell], only: Mapping[str, Iterable[int]] | None = None
    ) -> tuple[dict[str, set[int]], list[Damaged]]:
        """Return the finished chunks per cell, and the shards that are there but cannot be used.

        `only` names the chunks to look at, by the digest of their cell; without it all are looked at.
        """
        done: dict[str, set[int]] = {}
        damaged: list[Damaged] = []
        for cell in cells:
            finished = done.setdefault(cell.digest, set())
            for chunk in range(cell.chunks) if only is None else only[cell.digest]:
                path = self.shard(cell.digest, chunk)
                wrong = _wrong(path, cell.rows(chunk)) if path.exists() else "is not there"
                if not wrong:
                    finished.add(chunk)
                elif path.exists():
                    damaged.append(Damaged(path, wrong))
        return done, damaged

    def put_aside(self, damaged: Damaged) -> str:
        """Move a damaged shard out of the results, and return what was done in words."""
        aside = self.folder / DAMAGED / f"{damaged.path.parent.name}-{damaged.path.name}"
        _move(damaged.path, aside)
        return f"{damaged.path} {damaged.wrong}; moved to {aside}, and its samples run again."

    def read(self, cells: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the records of some cells of one kind, in order of cell and chunk; damaged shards are left out."""
        whole = _schema(cells[0]) if cells else SCHEMA
        schema = whole if columns is None else pa.schema([whole.field(name) for name in columns])
        shards = [str(path) for path in self._shards(cells) if not _wrong(path, None)]
        if not shards:
            return schema.empty_table()
        try:
            return ds.dataset(shards, schema=whole, format="parquet").to_table(columns=schema.names)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(_unreadable(map(Path, shards), error)) from error

    def state(self, cells: Sequence[str]) -> tuple[tuple[str, int, int, int], ...]:
        """Return which shards of some cells are there, and what changes when one is written again."""
        found = [(str(path), path.stat()) for path in self._shards(cells)]
        return tuple((path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found)

    def _shards(self, cells: Sequence[str]) -> Iterator[Path]:
        for cell in cells:
            yield from sorted((self.folder / _home(cell) / cell).glob("part-*.parquet"))

    def chunk(self, cell: str, chunk: int, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a finished chunk's records. Raises `BadInput` for a damaged shard."""
        path = self.shard(cell, chunk)
        try:
            return pq.read_table(path, columns=list(columns), partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(_unreadable([path], error)) from error

    def erroneous(self, cell: Cell, chunks: Iterable[int]) -> set[int]:
        """Return the chunks of a cell that hold error records."""
        found, column = set(), "answer" if cell.certificate else "status"
        for chunk in chunks:
            status = self.chunk(cell.digest, chunk, [column])[column]
            if pc.any(pc.equal(status, ERROR)).as_py():
                found.add(chunk)
        return found

    def cells(self) -> set[str]:
        """Return the digests of the cells that have shards here, retired ones too."""
        folders = [self.folder / name for name in (RESULTS, CERTIFICATES, RETIRED)]
        return {path.parent.name for folder in folders for path in folder.glob("*/part-*.parquet")}

    def keep_only(self, cells: Iterable[Cell]) -> list[str]:
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

    def take_from(self, other: Store, cells: Iterable[Cell]) -> int:
        """Link or copy another store's finished shards of `cells` into this one; return how many."""
        taken = 0
        for cell in cells:
            pairs = [(other.shard(cell.digest, i), self.shard(cell.digest, i)) for i in range(cell.chunks)]
            pairs += [(other.pictures(cell.digest, i), self.pictures(cell.digest, i)) for i in range(cell.chunks)]
            for source, target in pairs:
                if source.exists() and not target.exists():
                    _link(source, target)
                    taken += source.suffix == ".parquet"
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


def _wrong(path: Path, rows: int | None) -> str:
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return "is cut off or damaged"
    names, schema = found.schema.names, _schema(path.parent.name)
    added = [name for name in ADDED if name not in names] if schema is SCHEMA else []
    if [*names, *added] != schema.names:
        return "was written by another version"
    if rows is not None and found.num_rows != rows:
        return f"has {found.num_rows} rows where {rows} are planned"
    return ""


def _unreadable(shards: Iterable[Path], error: Exception) -> str:
    """Say which shard cannot be read: the end of the file was right, and something before it is not."""
    for path in shards:
        try:
            pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError):
            first = str(error).strip().partition("\n")[0]
            return f"{path} is damaged ({first}). Delete it and run the study again: its samples are attacked again."
    return f"The records cannot be read: {error}."


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
