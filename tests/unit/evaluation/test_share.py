from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.share import Share, deal
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from tests.support.tiny import study


def array(monkeypatch: pytest.MonkeyPatch, task: int, count: int, least: int, most: int) -> None:
    for name, value in {"ID": task, "COUNT": count, "MIN": least, "MAX": most}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


def test_a_share_is_written_as_a_number_of_how_many() -> None:
    assert Share.read("3/8") == Share(3, 8)
    assert str(Share(3, 8)) == "3/8"
    assert Options(share="1/1").part() == Share(1, 1)
    assert Options().part() is None


@pytest.mark.parametrize("text", ["", "3", "3/", "/8", "a/b", "3/8/2", "-1/8", "1.5/8", "3 of 8", "Slurm"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"is none; expected a number and how many there are, such as 3/8, or slurm"):
        Options(share=text)


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "1/0"])
def test_shares_count_from_one(text: str) -> None:
    with pytest.raises(BadInput, match="shares count from 1"):
        Share.read(text)


def test_more_shares_than_any_queue_has_tasks_are_refused() -> None:
    assert Share.read("7/100000") == Share(7, 100_000)
    with pytest.raises(BadInput, match=r"share 1/1000000000 is of 1,000,000,000, expected at most 100,000"):
        Share.read("1/1000000000")


@pytest.mark.parametrize("task", [0, 9, -8])
def test_a_task_that_its_array_does_not_have_has_no_share(monkeypatch: pytest.MonkeyPatch, task: int) -> None:
    # it would do the units of another
    array(monkeypatch, task, 8, 1, 8)
    with pytest.raises(BadInput, match=rf"SLURM_ARRAY_TASK_ID is {task}, and the tasks of this job array are 1 to 8"):
        Share.read("slurm")


def test_a_task_number_in_strange_digits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    array(monkeypatch, 1, 8, 1, 8)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "\N{SUPERSCRIPT THREE}")
    with pytest.raises(BadInput, match="SLURM_ARRAY_TASK_MAX is '\N{SUPERSCRIPT THREE}'"):
        Share.read("slurm")


@pytest.mark.parametrize(
    ("task", "count", "least", "most", "share"),
    [(1, 8, 1, 8, "1/8"), (8, 8, 1, 8, "8/8"), (0, 8, 0, 7, "1/8"), (7, 8, 0, 7, "8/8"), (30, 3, 10, 50, "2/3"),
     (5, 2, 2, 5, "2/2"), (4, 1, 4, 4, "1/1")],
)  # fmt: skip
def test_a_task_of_an_array_knows_its_share(
    monkeypatch: pytest.MonkeyPatch, task: int, count: int, least: int, most: int, share: str
) -> None:
    array(monkeypatch, task, count, least, most)
    assert Share.read("slurm") == Share.read(share)


@pytest.mark.parametrize(("task", "count", "least", "most"), [(1, 3, 1, 4), (2, 3, 1, 4), (6, 4, 1, 7), (2, 4, 1, 7)])
def test_a_task_of_an_uneven_array_knows_none(
    monkeypatch: pytest.MonkeyPatch, task: int, count: int, least: int, most: int
) -> None:
    array(monkeypatch, task, count, least, most)
    with pytest.raises(BadInput, match="not evenly spaced"):
        Share.read("slurm")


def test_outside_of_an_array_there_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    array(monkeypatch, 1, 8, 1, 8)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "many")
    with pytest.raises(BadInput, match="SLURM_ARRAY_TASK_MAX is 'many'"):
        Share.read("slurm")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    with pytest.raises(BadInput, match=r"SLURM_ARRAY_TASK_ID is not set. .*sbatch --array=1-8"):
        Share.read("slurm")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    from tests.support.tiny import write_model, write_pictures

    folder: Path = tmp_path_factory.mktemp("share")
    attacks = ["fgsm", {"attack": "pgd", "steps": 20}]
    given = study(write_model(folder / "model"), write_pictures(folder / "pictures", 30), attacks=attacks, chunk=4)
    return make_plan(given, Loader()).cells


def units_of(cells: tuple[Cell, ...]) -> list[Unit]:
    return [Unit(cell, chunk) for cell in cells for chunk in range(cell.chunks)]


@pytest.mark.parametrize("shares", [1, 2, 3, 5, 16, 40])
def test_shares_are_everything_once(cells: tuple[Cell, ...], shares: int) -> None:
    units = units_of(cells)
    assert len(units) == 16
    dealt = deal(units, shares)
    counts = Counter((unit.cell.digest, unit.chunk) for mine in dealt for unit in mine)
    assert set(counts.values()) == {1} and len(counts) == 16
    assert [len(mine) for mine in dealt if not mine] == [0] * max(0, shares - 16)
    assert [Share(number, shares).units(units) for number in range(1, shares + 1)] == dealt


def test_the_costly_cell_is_shared_like_the_cheap_one(cells: tuple[Cell, ...]) -> None:
    # dealt in turns by chunk, or cell by cell, one share would have all of PGD where there is one chunk each
    one_chunk = tuple(dataclasses.replace(cell, n=4, seed=seed) for seed in (0, 1) for cell in cells)
    for mine in deal(units_of(one_chunk), 2):
        assert sorted(unit.cell.attack.attack for unit in mine) == ["fgsm", "pgd"]
    for mine in deal(units_of(cells), 4):
        assert [unit.cell.attack.attack for unit in mine].count("pgd") == 2
