"""Many shards become few: equal in content and order, whoever reads, writes again or is killed meanwhile."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from assay.evaluation.cell import Cell, Unit
from assay.evaluation.records import packing, shards
from assay.evaluation.records.builder import all_failed
from assay.evaluation.records.schema import SCHEMA
from assay.evaluation.records.store import Store
from assay.evaluation.run import Run
from tests.support.many_records import cells_of, many_records, unit_table

FEW = packing.MOST_OF_FINISHED


def cell_of(chunks: int, **changed: object) -> Cell:
    return dataclasses.replace(cells_of(1, n=3 * chunks - 1, budgets=2, chunk=3)[0], **changed)


def names(store: Store, cell: Cell) -> list[str]:
    return sorted(path.name for path in store.shard(cell.digest, 0).parent.iterdir())


def test_a_finished_cell_of_many_shards_becomes_one_file_with_the_same_records(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    before = store.read([cell.digest])
    assert store.compact(cell) == FEW + 1
    assert names(store, cell) == [f"part-00000-{FEW:05d}.parquet"]
    assert store.read([cell.digest]).equals(before) and before.num_rows == 2 * cell.n
    assert pq.read_table(next(store.shard(cell.digest, 0).parent.iterdir()), partitioning=None).equals(before)
    assert store.done([cell]) == ({cell.digest: set(range(FEW + 1))}, [])
    assert store.done([cell], {cell.digest: [3, 5]})[0] == {cell.digest: {3, 5}}
    assert store.chunk(cell.digest, 7, ["chunk", "eps"]).equals(unit_table(Unit(cell, 7)).select(["chunk", "eps"]))
    assert store.compact(cell) == 0


def test_few_shards_stay_as_they_are(tmp_path: Path) -> None:
    cell = cell_of(FEW)
    store = many_records(tmp_path, [cell])
    assert store.compact(cell) == 0 and len(names(store, cell)) == FEW


def test_a_cell_in_work_is_packed_in_whole_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_TOGETHER", 10)
    monkeypatch.setattr(packing, "MOST", 25)
    cell = cell_of(60)
    store = Store(tmp_path)
    there = [chunk for chunk in range(60) if chunk not in (4, 37)]
    for chunk in there:
        store.write(Unit(cell, chunk), unit_table(Unit(cell, chunk)))
    before = store.read([cell.digest])
    assert store.compact(cell) == 40
    packs = [name for name in names(store, cell) if name.count("-") == 2]
    assert packs == [f"part-{first:05d}-{first + 9:05d}.parquet" for first in (10, 20, 40, 50)]
    assert store.read([cell.digest]).equals(before)
    assert store.done([cell])[0] == {cell.digest: set(there)}
    for chunk in (4, 37):
        store.write(Unit(cell, chunk), unit_table(Unit(cell, chunk)))
    store.compact(cell)
    whole = many_records(tmp_path / "whole", [cell])
    assert store.read([cell.digest]).equals(whole.read([cell.digest])) and len(names(store, cell)) == 24


@pytest.mark.parametrize("when", ["before the pack is there", "before anything is gone", "half-way"])
def test_whoever_is_killed_while_packing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    cell = cell_of(FEW + 9)
    store = many_records(tmp_path, [cell])
    before, calls = store.read([cell.digest]), 0
    unlink, replace = Path.unlink, Path.replace

    def dying(path: Path, **how: bool) -> None:
        nonlocal calls
        calls += not path.name.startswith(".")
        if not path.name.startswith(".") and calls > (0 if when == "before anything is gone" else 20):
            raise KeyboardInterrupt
        unlink(path, **how)

    with monkeypatch.context() as patched:
        if when == "before the pack is there":
            patched.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(KeyboardInterrupt))
        else:
            patched.setattr(Path, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            store.compact(cell)
    assert Path.replace is replace
    for _ in range(2):
        assert store.read([cell.digest]).equals(before)
        assert store.done([cell]) == ({cell.digest: set(range(FEW + 9))}, [])
        store.clean()
        store.compact(cell)
    assert len(names(store, cell)) == 1


def test_a_chunk_that_ran_again_counts_and_is_taken_in(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    unit = Unit(cell, 5)
    ids = [f"imagenet/val/ILSVRC2012_val_{at:08d}.JPEG" for at in cell.positions(5)]
    store.write(unit, all_failed(unit, ids, [0] * len(ids), "no"))
    store.compact(cell)
    assert 5 in store.erroneous(cell, range(FEW + 1))
    good = unit_table(Unit(cell, 5), seed=1)
    store.write(unit, good)
    for _ in range(2):
        table = store.read([cell.digest])
        assert table.num_rows == 2 * cell.n
        assert table["chunk"].to_pylist() == sorted(table["chunk"].to_pylist())
        assert store.chunk(cell.digest, 5, SCHEMA.names).equals(good)
        store.compact(cell)
    assert len(names(store, cell)) == 1


def test_what_is_written_again_while_one_packs_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    other = unit_table(Unit(cell, 3), seed=9)
    fsync = os.fsync
    asked = []

    def late(descriptor: int) -> None:
        fsync(descriptor)
        if not asked:
            asked.append(descriptor)
            store.write(Unit(cell, 3), other)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", late)
        store.compact(cell)
    assert store.chunk(cell.digest, 3, SCHEMA.names).equals(other)
    store.compact(cell)
    assert len(names(store, cell)) == 1 and store.chunk(cell.digest, 3, SCHEMA.names).equals(other)


def test_readers_go_on_while_files_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PIECE", 6)
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    before = store.read([cell.digest])
    reading = store.pieces([cell.digest], SCHEMA.names)
    found = [next(reading) for _ in range(5)]
    store.compact(cell)
    found += list(reading)
    assert sum(table.num_rows for table in found) == before.num_rows
    assert [row for table in found for row in table.to_pylist()] == before.to_pylist()


def test_a_damaged_shard_keeps_its_block_as_it_is(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    path = store.shard(cell.digest, 5)
    path.write_bytes(path.read_bytes()[:-5])
    assert store.compact(cell) == 0 and len(names(store, cell)) == FEW + 1
    assert store.done([cell])[0][cell.digest] == set(range(FEW + 1)) - {5}


def test_what_is_damaged_is_not_told_twice_and_never_as_less_than_nothing(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    store.compact(cell)
    again = store.shard(cell.digest, 5)
    again.write_bytes(b"cut off")
    assert Run.open(tmp_path).gaps() == [f"{again} is cut off or damaged"]
    again.unlink()
    pack = again.with_name(f"part-00000-{FEW:05d}.parquet")
    pack.write_bytes(pack.read_bytes()[:-5])
    assert Run.open(tmp_path).gaps() == [f"{pack} is cut off or damaged"]


def test_packs_are_forked_retired_and_brought_back(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path / "a", [cell])
    store.compact(cell)
    fork = Store(tmp_path / "b")
    fork.write(Unit(cell, 2), unit_table(Unit(cell, 2)))
    assert fork.take_from(store, [cell]) == FEW
    assert fork.read([cell.digest]).equals(store.read([cell.digest]))
    assert store.keep_only([]) == [cell.digest] and store.cells() == {cell.digest}
    store.keep_only([cell])
    assert store.read([cell.digest]).equals(fork.read([cell.digest]))


def test_a_fork_has_chunks_that_ran_again_as_they_are_now(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path / "a", [cell])
    store.compact(cell)
    for chunk in (0, 7):
        store.write(Unit(cell, chunk), unit_table(Unit(cell, chunk), seed=1))
    fork = Store(tmp_path / "b")
    assert fork.take_from(store, [cell]) == FEW + 1
    assert fork.read([cell.digest]).equals(store.read([cell.digest]))


def test_columns_that_came_later_are_null_in_packs_of_older_shards(tmp_path: Path) -> None:
    cell = cell_of(FEW + 1)
    store = many_records(tmp_path, [cell])
    path = store.shard(cell.digest, 0)
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["size_ycbcr", "size_patch"]), path)
    before = store.read([cell.digest])
    assert before.num_rows == 2 * cell.n and before["size_patch"].null_count == 2 * cell.n
    store.compact(cell)
    assert store.read([cell.digest]).equals(before) and len(names(store, cell)) == 1


def test_chunks_beyond_five_digits_stay_in_order(tmp_path: Path) -> None:
    cell = cells_of(1, n=100_001, budgets=1, chunk=1)[0]
    store = Store(tmp_path)
    for chunk in (99_999, 100_000):
        store.write(Unit(cell, chunk), unit_table(Unit(cell, chunk)))
    assert store.read([cell.digest], ["chunk"])["chunk"].to_pylist() == [99_999, 100_000]


def test_text_columns_come_as_codes_on_demand(tmp_path: Path) -> None:
    cell = cell_of(3)
    store = many_records(tmp_path, [cell])
    (piece,) = store.pieces([cell.digest], ["status", "eps"], coded=True)
    assert str(piece.schema.field("status").type).startswith("dictionary")
    assert piece["status"].to_pylist() == store.read([cell.digest])["status"].to_pylist()
