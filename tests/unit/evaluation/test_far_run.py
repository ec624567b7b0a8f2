"""Run directories in a store: read as those on this machine, fetched once, and not written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from assay.core.errors import BadInput
from assay.data.stores import mirror
from assay.evaluation.run import Run
from assay.session import AuditSettings, audit_directory
from tests.support.many_records import cells_of, many_records


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    yield memory
    for name in list(memory.store):
        memory.store.pop(name)


def put(store: fsspec.AbstractFileSystem, folder: Path, to: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_run_in_a_store_has_the_numbers_of_the_run(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    here = tmp_path / "run"
    many_records(here, cells_of(2, n=40, budgets=2, chunk=16))
    put(store, here, "/bucket/run")
    store.pipe_file("/bucket/run/answers/answers.sqlite", b"large")
    far = Run.open("memory://bucket/run")
    assert far.results() == Run.open(here).results() and far.worst_case() == Run.open(here).worst_case()
    assert far.gaps() == [] and far.far == "memory://bucket/run"
    assert not (far.path / "answers").exists(), "what no reader needs is not fetched"


def test_what_changes_in_the_store_changes_here(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    here = tmp_path / "run"
    cells = cells_of(2, n=40, budgets=2, chunk=16)
    many_records(here, cells)
    put(store, here, "/bucket/run")
    first = Run.open("memory://bucket/run").results()
    store.rm(f"/bucket/run/results/{cells[0].digest}/part-00001.parquet")
    fewer = Run.open("memory://bucket/run")
    assert fewer.results() != first and fewer.gaps() == ["1 chunk of records is not there"]


def test_what_a_store_names_is_fetched_once(
    store: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "run"
    many_records(here, cells_of(1, n=40, budgets=2, chunk=16))
    put(store, here, "/bucket/run")
    tags = {"now": "a"}
    listed = mirror.files_below

    def tagged(*given: object) -> object:
        files, folders = listed(*given)  # type: ignore[arg-type]  # as it was called
        return [mirror.Entry(one.path, one.size, tags["now"]) for one in files], folders

    fetched: list[str] = []
    read = mirror.read
    monkeypatch.setattr(mirror, "files_below", tagged)
    monkeypatch.setattr(mirror, "read", lambda place, path, **how: fetched.append(path) or read(place, path, **how))
    wanted = Run.open("memory://bucket/run").results()
    assert len(fetched) == 4
    assert Run.open("memory://bucket/run").results() == wanted and len(fetched) == 4
    (Run.open("memory://bucket/run").path / "manifest.json").write_text("cut")
    assert Run.open("memory://bucket/run").results() == wanted and len(fetched) == 5
    tags["now"] = "b"
    Run.open("memory://bucket/run")
    assert len(fetched) == 9


def test_names_that_lead_out_of_the_copy_are_left_alone(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    here = tmp_path / "run"
    many_records(here, cells_of(1, n=8, budgets=2))
    put(store, here, "/bucket/run")
    store.pipe_file("/bucket/run/results/../../../escaped", b"x")
    Run.open("memory://bucket/run")
    assert not list(tmp_path.rglob("escaped"))


def test_slips_are_told(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There are no files under memory://bucket/none"):
        Run.open("memory://bucket/none")
    store.pipe_file("/bucket/other/file", b"x")
    with pytest.raises(BadInput, match=r"memory://bucket/other is not a run directory: it has no manifest\.json"):
        Run.open("memory://bucket/other")
    many_records(tmp_path / "run", cells_of(1, n=8, budgets=2))
    put(store, tmp_path / "run", "/bucket/run")
    with pytest.raises(BadInput, match=r"nothing is written there\. Copy it to this machine"):
        audit_directory(Run.open("memory://bucket/run"), AuditSettings("quick"), None)  # type: ignore[arg-type]  # unused
