from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.evaluation.run import Run
from assay.files import DiskError, make_folder, remove_unfinished, write_atomically
from tests.support.tiny import rows, run_here, study


def mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=80k", "tmpfs", str(folder)):
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    assert mount("-o", f"remount,{how}", str(folder))


def test_a_file_is_whole_or_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"first")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskError, match=r"file could not be written: The disk is full. Free some space; what is fin"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


def test_half_written_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".writing-7-x").write_bytes(b"h")
    (tmp_path / "a" / "x").write_bytes(b"h")
    assert remove_unfinished(tmp_path) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="could not be written"):
        make_folder(tmp_path / "file" / "folder")


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_full_disk_is_said_and_the_run_continues(
    small_disk: Path, tmp_path: Path, tiny_model: str, tiny_source: str, executor: str
) -> None:
    given, out = study(tiny_model, tiny_source, chunk=3), small_disk / "run"
    with pytest.raises(DiskError) as caught:
        run_here(out, given, executor=executor, workers=1)
    assert "The disk is full. Free some space; what is finished is kept" in str(caught.value)
    assert caught.value.exit_code == 1
    stored = len(list(out.rglob("*.parquet")))
    assert 0 < stored < 20 and not list(out.rglob(".writing-*"))
    remount(small_disk, "size=4m")
    assert rows(run_here(out, given)) == rows(run_here(tmp_path / "b", given))
    assert Run.open(out).status == "success"


def test_a_full_disk_under_one_share_leaves_the_rest_to_the_next(
    small_disk: Path, tmp_path: Path, tiny_model: str, tiny_source: str
) -> None:
    given, out = study(tiny_model, tiny_source, chunk=3), small_disk / "run"
    with pytest.raises(DiskError, match="The disk is full"):
        run_here(out, given, share="1/2")
    assert not list(out.rglob(".writing-*"))
    stored = len(list(out.rglob("*.parquet")))
    assert 0 < stored < 10
    remount(small_disk, "size=4m")
    assert run_here(out, given, share="2/2").status == "started"
    run = run_here(out, given, share="1/2")
    assert run.status == "success" and rows(run) == rows(run_here(tmp_path / "b", given))


def test_a_read_only_place_is_said(small_disk: Path, tiny_model: str, tiny_source: str) -> None:
    given, out = study(tiny_model, tiny_source, attacks="fgsm"), small_disk / "run"
    remount(small_disk, "size=4m,ro")
    try:
        with pytest.raises(DiskError, match=r"The place is read-only\. Choose another --out"):
            run_here(out, given)
    finally:
        remount(small_disk, "rw")
    assert run_here(out, given).status == "success"
    remount(small_disk, "ro")
    try:
        assert Run.open(out).results(), "reading needs no permission to write"
        with pytest.raises(DiskError, match="read-only"):
            run_here(out, given)
    finally:
        remount(small_disk, "rw")
