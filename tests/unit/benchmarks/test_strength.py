"""The harness around the contenders: keys of the cache, names of the rows, processes, and our own side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.strength import cache
from benchmarks.strength.board import BUDGET, DISTANCE, MINIMUM, OURS, QUERIES, TRANSFER, Contender, Row, Task
from benchmarks.strength.child import measure, run_child
from benchmarks.strength.libraries import LIBRARIES, MODULES, PACKAGES
from benchmarks.strength.rows import SHORT, rows

PGD = Contender(OURS, "pgd", {"steps": 5})
ROW = Row("pgd@cnn", BUDGET, "zoo:mnist-cnn", "linf", PGD, (), images=6, eps=0.2)
TASK = Task.of(ROW, PGD)


def key(task: Task = TASK, version: str = "1.0", weights: str = "w", pictures: str = "p") -> str:
    return cache.key(task, version, (weights,), pictures)


def test_the_key_depends_on_everything_that_the_result_does() -> None:
    with_steps = dataclasses.replace(TASK, contender=dataclasses.replace(PGD, options={"steps": 6}))
    with_seed = dataclasses.replace(TASK, contender=dataclasses.replace(PGD, seed=1))
    others = [
        key(with_steps),
        key(with_seed),
        key(dataclasses.replace(TASK, eps=0.1)),
        key(dataclasses.replace(TASK, images=5)),
        key(version="1.1"),
        key(weights="v"),
        key(pictures="q"),
    ]
    assert len({key(), *others}) == 8
    reordered = dataclasses.replace(PGD, options={"b": 1, "a": 2}), dataclasses.replace(PGD, options={"a": 2, "b": 1})
    assert len({key(dataclasses.replace(TASK, contender=one)) for one in reordered}) == 1


def test_the_cache_keeps_what_others_added_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "cache.json"
    assert cache.read(file) == {}
    cache.keep(file, "b", {"cpu": 1.0})
    cache.keep(file, "a", {"cpu": 2.0})
    cache.keep(file, "b", {"cpu": 3.0})
    assert cache.read(file) == {"a": {"cpu": 2.0}, "b": {"cpu": 3.0}}
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_a_task_survives_json_and_takes_the_smallest_number_of_images() -> None:
    assert Task.read(TASK.plain()) == TASK
    few = dataclasses.replace(PGD, images=3)
    assert [Task.of(ROW, few).images, Task.of(ROW, few, 2).images, Task.of(ROW, PGD, 100).images] == [3, 2, 6]


def test_rows_have_contenders_that_can_be_told_apart_and_called() -> None:
    for row in rows().values():
        names = [contender.name for contender in row.contenders]
        assert len(set(names)) == len(names), row.name
        assert row.ours.library == OURS and row.subject in SHORT
        assert {peer.library for peer in row.peers} <= set(LIBRARIES)
        assert (row.eps is not None) == (row.kind in (BUDGET, QUERIES, TRANSFER)), row.name
        assert (row.limit is not None) == (row.kind in (QUERIES, DISTANCE)), row.name
    assert {row.kind for row in rows().values()} == {BUDGET, MINIMUM, QUERIES, DISTANCE, TRANSFER}
    assert set(LIBRARIES) == set(PACKAGES) == set(MODULES)


def test_our_side_is_measured_and_its_counts_agree_with_the_hooks() -> None:
    found = measure(TASK)
    assert found["counts agree"] is True
    assert (found["images"], len(found["sizes"]) + found["mistakes"]) == (6, 6)
    assert all(size is None or size <= 0.2 * (1 + 1e-4) for size in found["sizes"])
    assert 0 < found["backwards"] <= found["forwards"] <= 6


def test_queries_are_counted_image_by_image() -> None:
    found = measure(dataclasses.replace(TASK, kind=QUERIES, limit=4))
    assert all(one is None or 1 <= one <= 4 for one in found["queries"])
    assert found["forwards"] <= 4
    assert [one is None for one in found["queries"]] == [one is None for one in found["sizes"]]


def test_transfer_is_judged_by_the_target() -> None:
    moved = dataclasses.replace(TASK, kind=TRANSFER, surrogate="zoo:mnist-cnn", subject="zoo:mnist-distilled-t100")
    found = measure(moved)
    assert found["transfer"] is True
    # the last point counts: all steps are made, and only the surrogate's passes are counted
    assert (found["forwards"], found["backwards"]) == (6.0, 5.0)


def test_an_attack_that_is_not_there_and_a_late_one_are_results() -> None:
    absent = dataclasses.replace(TASK, images=1, contender=Contender(OURS, "no-such-attack"))
    assert run_child(absent, 120.0) == {"absent": "no-such-attack is not in the table yet"}
    assert run_child(TASK, 0.05) == {"failed": "not done after 0 s"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_fails_is_a_result(library: str) -> None:
    broken = dataclasses.replace(TASK, images=1, contender=Contender(library, "NoSuchAttack"))
    with pytest.raises(Exception, match=r"NoSuchAttack|No module named|no attribute"):
        measure(broken)
