from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import AssayError
from assay.files import DiskError
from assay.models.remote.ledger import Ledger, current
from assay.models.remote.place import Place, key_of
from assay.spending import FILE, FOLDER, LedgerDamaged, Limits, Spent, allowed, spent_in

ONE = {b"a": np.array([1, 2.5], np.float32)}


def same(found: dict[bytes, np.ndarray], expected: dict[bytes, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in expected)


def file_of(folder: Path) -> Path:
    return folder / FOLDER / FILE


def test_what_is_written_is_known_in_memory_and_in_a_run(tmp_path: Path) -> None:
    ledger = Ledger()
    assert ledger.known([b"a"]) == {} and ledger.spent() == {}
    ledger.write("e", "c", ONE, Spent(0, 0, 1, 0))
    assert same(ledger.known([b"a", b"b"]), ONE)
    ledger.keep_in(tmp_path)
    assert same(ledger.known([b"a", b"b"]), ONE) and ledger.spent() == {("e", "c"): Spent(0, 0, 1, 0)}
    ledger.close()
    again = Ledger.of_run(tmp_path)
    assert same(again.known([b"a"]), ONE) and again.total("e") == Spent(requests=1)
    again.close()


def test_a_run_without_endpoints_has_no_file(tmp_path: Path) -> None:
    with Ledger().used() as ledger:
        ledger.keep_in(tmp_path)
        assert current() is ledger and ledger.known([b"a"]) == {} and ledger.canaries("e") == []
    assert current() is None and not file_of(tmp_path).exists()


def test_another_run_can_be_looked_at_and_is_not_written_to(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = Ledger.of_run(one)
    first.write("e", "c", ONE, Spent(billed=1))
    first.close()
    before = file_of(one).read_bytes()
    ledger = Ledger()
    ledger.look_behind(one)
    assert same(ledger.known([b"a"]), ONE) and spent_in(one) == {("e", "c"): Spent(billed=1)}
    ledger.write("e", "labels", {b"b": ONE[b"a"]}, Spent(billed=1))
    ledger.keep_in(two)
    assert same(ledger.known([b"a", b"b"]), {b"b": ONE[b"a"]}), "what lies behind is another run's"
    ledger.close()
    forked = Ledger()
    forked.keep_in(two, one)
    assert set(forked.known([b"a", b"b"])) == {b"a", b"b"}
    assert forked.total("e") == Spent(billed=1), "answers are taken over, counts are not"
    forked.close()
    assert file_of(one).read_bytes() == before


@given(st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=4)), min_size=2, unique=True))
def test_keys_of_different_endpoints_and_rows_differ(asked: list[tuple[str, bytes]]) -> None:
    keys = {key_of(identity, content) for identity, content in asked}
    drawn = {key_of(i, c, Place("cell", chunk), n) for i, c in asked for chunk in (0, 1) for n in (0, 1)}
    assert len(keys) == len(asked) and len(drawn) == 4 * len(asked) and not keys & drawn


def test_the_first_of_two_answers_counts(tmp_path: Path) -> None:
    one, two = Ledger.of_run(tmp_path), Ledger.of_run(tmp_path)
    one.write("e", "c", ONE, Spent())
    assert same(two.write("e", "c", {b"a": np.array([7, 7], np.float32)}, Spent()), ONE)
    one.close()
    two.close()


def test_an_answer_whose_bytes_changed_is_not_there(tmp_path: Path) -> None:
    ledger = Ledger.of_run(tmp_path)
    ledger.write("e", "c", ONE, Spent())
    ledger.close()
    with sqlite3.connect(file_of(tmp_path)) as db:
        ((stored,),) = db.execute("SELECT answer FROM answers")
        db.execute("UPDATE answers SET answer = ?", (stored[:-1] + bytes([stored[-1] ^ 1]),))
    db.close()
    ledger = Ledger.of_run(tmp_path)
    assert ledger.known([b"a"]) == {}
    assert same(ledger.write("e", "c", ONE, Spent()), ONE) and same(ledger.known([b"a"]), ONE)
    ledger.close()


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_damaged_file_is_put_aside(tmp_path: Path, damage: str) -> None:
    ledger = Ledger.of_run(tmp_path)
    many = {bytes([i, j]): np.ones(100, np.float32) for i in range(100) for j in range(10)}
    ledger.write("e", "c", many, Spent(billed=1000))
    ledger.close()
    path = file_of(tmp_path)
    content = path.read_bytes()
    path.write_bytes(b"no database at all" * 500 if damage == "text" else content[: len(content) // 2])
    for number in ("", "-2"):
        ledger = Ledger.of_run(tmp_path)
        assert len(ledger.warnings) == 1 and "is damaged" in ledger.warnings[0] and "asked again" in ledger.warnings[0]
        assert ledger.known(list(many)) == {} and ledger.total("e") == Spent()
        ledger.write("e", "c", ONE, Spent(billed=1))
        ledger.close()
        assert (tmp_path / "damaged" / f"answers{number}.sqlite").exists()
        path.write_bytes(b"nonsense" * 500)


def test_damage_that_is_met_on_the_way_is_said(tmp_path: Path) -> None:
    file_of(tmp_path).parent.mkdir()
    file_of(tmp_path).write_bytes(b"no database at all" * 500)
    ledger = Ledger.of_run(tmp_path, check=False)
    with pytest.raises(LedgerDamaged, match="same command puts it aside"):
        ledger.known([b"a"])
    ledger.close()


def test_a_full_disk_is_said_and_loses_nothing_before_it(tmp_path: Path) -> None:
    ledger = Ledger.of_run(tmp_path)
    ledger.write("e", "c", ONE, Spent(billed=1))
    ((pages,),) = ledger._opened().execute("PRAGMA page_count")
    ledger._opened().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskError, match=r"answers\.sqlite.* could not be used: The disk is full\. Free some space"):
        ledger.write("e", "c", {bytes([i]): np.ones(1000, np.float32) for i in range(9)}, Spent(billed=9))
    assert same(ledger.known([bytes([3]), b"a"]), ONE) and ledger.total("e") == Spent(billed=1)
    ledger.close()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    ledger = Ledger.of_run(tmp_path)
    with pytest.raises(DiskError, match="could not be used"):
        ledger.open()
    ledger.close()


def take(folder: Path, count: int, most: int) -> None:
    ledger = Ledger.of_run(folder, check=False)
    for _ in range(count):
        ledger.reserve("e", "c", 3, most)
    ledger.close()


def test_processes_and_threads_together_take_no_more_than_is_allowed(tmp_path: Path) -> None:
    Ledger.of_run(tmp_path).open()
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=take, args=(tmp_path, 40, 200)) for _ in range(2)]
    for one in others:
        one.start()
    ledger, got = Ledger.of_run(tmp_path), []
    threads = [
        threading.Thread(target=lambda: got.extend(ledger.reserve("e", "c", 3, 200) for _ in range(40)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for job in (*threads, *others):
        job.join()
    # 6 x 40 x 3 rows were wanted
    assert ledger.total("e").billed == 200 and ledger.reserve("e", "c", 1, 200) == 0
    assert ledger.reserve("other", "c", 5, 200) == 5, "each endpoint has its own"
    ledger.close()


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({}, None),
        ({"queries": 7}, 7),
        ({"price": 0.1, "budget": 3.0}, 30),
        ({"price": 0.0006, "budget": 0.6}, 1000),
        ({"queries": 7, "price": 1.0, "budget": 3.5}, 3),
        ({"queries": 2, "price": 1.0, "budget": 3.5}, 2),
        ({"price": 0.3}, None),
    ],
)
def test_rows_are_limited_by_number_and_by_money(limits: dict[str, float], rows: int | None) -> None:
    assert allowed(Limits(**limits)) == rows  # type: ignore[arg-type]  # by name


def test_errors_of_the_ledger_end_a_run_and_keep_it() -> None:
    assert issubclass(LedgerDamaged, AssayError) and LedgerDamaged.exit_code == 1
