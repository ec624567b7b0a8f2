from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from assay.evaluation.cell import Unit
from assay.evaluation.records.builder import all_failed
from assay.evaluation.records.schema import from_table
from assay.evaluation.records.store import Store
from tests.unit.evaluation.test_plan import CELL


def table(unit: Unit, text: str = "no") -> object:
    ids = [f"d/{at}" for at in unit.cell.positions(unit.chunk)]
    return all_failed(unit, ids, [0] * len(ids), text)


def write(store: Store, unit: Unit) -> None:
    store.write(unit, table(unit))  # type: ignore[arg-type]


def test_what_is_written_is_done_and_reads_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for chunk in (2, 0):
        write(store, Unit(CELL, chunk))
    assert store.done([CELL]) == ({CELL.digest: {0, 2}}, [])
    records = from_table(store.read([CELL.digest]))
    assert [record.sample_id for record in records if record.eps_written == "1/255"] == [
        "d/0", "d/1", "d/2", "d/3", "d/8", "d/9"
    ]  # fmt: skip
    assert store.read([CELL.digest], ["eps", "label"]).column_names == ["eps", "label"]
    assert store.read(["nothing"]).num_rows == 0
    assert store.erroneous(CELL, [0, 2]) == {0, 2}
    assert not list(tmp_path.rglob(".writing-*"))


def test_a_shard_with_other_rows_than_planned_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    small = dataclasses.replace(CELL, n=3)
    write(store, Unit(small, 0))
    store.shard(small.digest, 0).rename(store.folder / "shard")
    target = store.shard(CELL.digest, 0)
    target.parent.mkdir(parents=True)
    (store.folder / "shard").rename(target)
    done, damaged = store.done([CELL])
    assert done == {CELL.digest: set()} and damaged[0].wrong == "has 6 rows where 8 are planned"
    assert target.exists(), "looking changes nothing"
    assert "and its samples run again" in store.put_aside(damaged[0]) and not target.exists()


def test_a_wrong_table_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="planned rows"):
        Store(tmp_path).write(Unit(CELL, 0), table(Unit(CELL, 2)))  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [1, 8, 300, 2000])
def test_a_cut_off_shard_is_moved_aside(tmp_path: Path, cut: int) -> None:
    store = Store(tmp_path)
    write(store, Unit(CELL, 0))
    path = store.shard(CELL.digest, 0)
    path.write_bytes(path.read_bytes()[:-cut])
    assert store.read([CELL.digest]).num_rows == 0
    done, damaged = store.done([CELL])
    assert done[CELL.digest] == set() and damaged[0].wrong == "is cut off or damaged"
    store.put_aside(damaged[0])
    assert [one.name for one in (tmp_path / "damaged").iterdir()] == [f"{CELL.digest}-part-00000.parquet"]


def test_cells_retire_and_return(tmp_path: Path) -> None:
    store, other = Store(tmp_path), dataclasses.replace(CELL, seed=1)
    for cell in (CELL, other):
        write(store, Unit(cell, 0))
    assert store.keep_only([CELL]) == [other.digest] and store.cells() == {CELL.digest, other.digest}
    assert store.done([CELL, other])[0] == {CELL.digest: {0}, other.digest: set()}
    assert store.keep_only([other]) == [CELL.digest]
    assert store.done([CELL, other])[0] == {CELL.digest: set(), other.digest: {0}}
