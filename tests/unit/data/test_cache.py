from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from assay.data.cache import download, fetch_wheel
from assay.files import cache_dir
from assay.models.weights_file import Unavailable


def test_the_place_is_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


@pytest.mark.parametrize(
    ("platform", "xdg", "expected"),
    [
        ("linux", "", ".cache/assay"),
        ("linux", "/elsewhere", "/elsewhere/assay"),
        ("darwin", "/elsewhere", "Library/Caches/assay"),
        ("win32", "", "AppData/Local/assay/cache"),
    ],
)
def test_without_a_choice_it_is_the_platforms(
    platform: str, xdg: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_CACHE", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path.home() / expected


def test_a_url_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: Any, **__: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", no_connection)
    with pytest.raises(Unavailable, match=r"http://a/b could not be read: timed out"):
        download("http://a/b")


def test_a_url_gives_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert download((tmp_path / "a").as_uri()) == b"content"


def test_pip_fetches_the_wheel_under_its_hash_and_without_dependencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> Any:
        asked.append(command)
        (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert fetch_wheel("a==1", "00ff", tmp_path) == tmp_path / "a-1-py3-none-any.whl"
    assert asked[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(asked[0])
    assert (tmp_path / "requirement.txt").read_text() == "a==1 --hash=sha256:00ff\n"


def test_pips_last_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found for a==1\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(Unavailable, match="pip could not download a==1: ERROR: No matching distribution"):
        fetch_wheel("a==1", "00ff", tmp_path)
