from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from assay.cli import main
from tests.support.workplace import AUDITED, Workplace, make_workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    return Workplace(tmp_path, capsys)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in runs/toy; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    make_workplace(folder)
    with contextlib.chdir(folder), pytest.raises(SystemExit) as left:
        main([*AUDITED.split(), "--attack", "pgd:steps=3", "--out", "runs/toy"])
    assert not left.value.code
    return folder
