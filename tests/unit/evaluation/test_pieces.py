"""Numbers of records in pieces: the same to the bit, however they are cut, in bounded memory, and kept while true."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay.evaluation.analysis import kept_numbers, scan
from assay.evaluation.analysis.kept_numbers import NUMBERS
from assay.evaluation.analysis.score import Result, results, worst_case
from assay.evaluation.records import shards
from assay.evaluation.records.store import Store
from assay.evaluation.run import Run
from tests.support.many_records import cells_of, many_records


def exact(found: list[Result]) -> list[list[Any]]:
    # repr tells floats apart to the last bit, and NaN is like itself
    return [[repr(value) for value in dataclasses.asdict(one).values()] for one in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("many")
    many_records(folder, cells_of(5, n=300, budgets=3, chunk=64, models=2))
    return Run.open(folder)


def cut(table: pa.Table, rows: int) -> list[pa.Table]:
    return [table.slice(at, rows) for at in range(0, table.num_rows, rows)]


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_pieces_of_any_size_give_the_same_numbers_to_the_bit(run: Run, rows: int) -> None:
    whole = run.records()
    assert exact(results(iter(cut(whole, rows)))) == exact(results(whole))
    assert exact(worst_case(cut(whole, rows))) == exact(worst_case(whole))


def test_row_by_row_too(run: Run) -> None:
    whole = run.records().slice(0, 400)
    assert exact(results(cut(whole, 1))) == exact(results(whole))
    assert exact(worst_case(cut(whole, 1))) == exact(worst_case(whole))


def test_a_run_that_is_read_in_pieces_has_the_numbers_of_all_its_records(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.records()
    wanted = exact(results(whole, {"m0.pt": None})), exact(worst_case(whole))
    assert [len(one) for one in wanted] == [15, 6]
    for piece, state in ((shards.PIECE, scan.STATE), (50, scan.STATE), (50, 1)):
        monkeypatch.setattr(shards, "PIECE", piece)
        monkeypatch.setattr(scan, "STATE", state)
        here = Run.open(run.path)
        assert (exact(here.results()), exact(here.worst_case())) == wanted


def test_sums_of_seconds_follow_the_records(run: Run) -> None:
    whole = run.records()
    by_hand: dict[tuple[str, float], float] = {}
    for row in whole.select(["cell", "eps", "seconds"]).to_pylist():
        key = (row["cell"], row["eps"])
        by_hand[key] = by_hand.get(key, 0.0) + row["seconds"]
    assert {(one.cell, one.eps): one.seconds for one in run.results()} == by_hand


def test_numbers_are_kept_while_their_records_stay(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_numbers, "LEAST", 1)
    cells = cells_of(3, n=40, budgets=2, chunk=16)
    store = many_records(tmp_path, cells)
    read: list[object] = []
    pieces = Store.pieces
    monkeypatch.setattr(Store, "pieces", lambda *given, **how: read.append(given[1]) or pieces(*given, **how))
    wanted = [exact(one) for one in (Run.open(tmp_path).results(), Run.open(tmp_path).worst_case())]
    assert len(read) == 4 and (tmp_path / NUMBERS).is_file()
    read.clear()
    again = Run.open(tmp_path)
    assert [exact(again.results()), exact(again.worst_case())] == wanted and not read
    # a shard that is written again, equal in size: its cell is counted again, and what is merged with it
    path = store.shard(cells[1].digest, 0)
    other = many_records(tmp_path / "other", cells[1:2], seed=3).shard(cells[1].digest, 0)
    other.replace(path)
    changed = Run.open(tmp_path)
    assert exact(changed.results()) != wanted[0] and list(map(list, read)) == [[cells[1].digest]]
    assert exact(changed.worst_case()) == exact(worst_case(changed.records()))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "null"])
def test_numbers_that_cannot_be_read_are_counted(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_numbers, "LEAST", 1)
    many_records(tmp_path, cells_of(1, n=8, budgets=2))
    wanted = exact(Run.open(tmp_path).results())
    (tmp_path / NUMBERS).write_text(content)
    assert exact(Run.open(tmp_path).results()) == wanted


def test_kept_numbers_of_other_fields_are_counted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_numbers, "LEAST", 1)
    many_records(tmp_path, cells_of(1, n=8, budgets=2))
    wanted = exact(Run.open(tmp_path).results())
    kept = json.loads((tmp_path / NUMBERS).read_text())
    (tmp_path / NUMBERS).write_text(json.dumps({name: [{"n": 1}] for name in kept}))
    assert exact(Run.open(tmp_path).results()) == wanted


def test_small_runs_keep_nothing(run: Run) -> None:
    run.results()
    assert not (run.path / NUMBERS).exists()


def test_a_directory_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_numbers, "LEAST", 1)
    many_records(tmp_path, cells_of(1, n=8, budgets=2))
    (tmp_path / NUMBERS).mkdir()
    found = Run.open(tmp_path).results()
    assert len(found) == 2 and not math.isnan(found[0].robust_accuracy)
