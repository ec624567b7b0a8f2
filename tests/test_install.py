"""The check that finds broken packages in .venv: missing files, files cut short, installs that never finished."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def venv_check() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "venv_check.py"
    spec = importlib.util.spec_from_file_location("venv_check", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path, venv_check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with one package of two files."""
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "thing" / "data.bin").write_bytes(b"0123456789")
    record = "thing/__init__.py,sha256=a,6\nthing/data.bin,sha256=b,10\nthing/__pycache__/a.pyc,,\n"
    (info / "RECORD").write_text(record + "thing-1.0.dist-info/RECORD,,\n")
    monkeypatch.setattr(venv_check.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    return tmp_path


def test_a_whole_environment_passes(site: Path, venv_check: ModuleType) -> None:
    assert venv_check.main(["thing-1.0.dist-info"]) == 0


@pytest.mark.parametrize("damage", ["missing", "short", "unfinished"])
def test_damage_is_found_and_repair_lets_pip_see_it(
    damage: str, site: Path, venv_check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    match damage:
        case "missing":
            (site / "thing" / "__init__.py").unlink()
        case "short":
            (site / "thing" / "data.bin").write_bytes(b"01234")
        case "unfinished":
            (site / "thing-1.0.dist-info" / "RECORD").unlink()
    assert venv_check.main([]) == 1
    assert "thing-1.0" in capsys.readouterr().out
    assert (site / "thing-1.0.dist-info").exists()
    assert venv_check.main(["--repair"]) == 1
    assert not (site / "thing-1.0.dist-info").exists()


def test_a_package_that_is_gone_is_missed(site: Path, venv_check: ModuleType) -> None:
    assert venv_check.main(["other-2.0.dist-info"]) == 1
