"""The notebooks of the documentation run from top to bottom, and hold no output that could be old."""

from __future__ import annotations

import ast
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

import assay

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[str]:
    read = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in read["cells"] if cell["cell_type"] == kind]


def run_cell(text: str, names: dict[str, Any]) -> str:
    """Run a cell as a notebook does; return what it shows of its last expression."""
    *body, last = ast.parse(text).body
    exec(compile(ast.Module([*body], []), "<cell>", "exec"), names)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "<cell>", "exec"), names)
        return ""
    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return value._repr_html_() if hasattr(value, "_repr_html_") else "" if value is None else repr(value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        shown = [run_cell(text, module.__dict__) for text in cells(path, "code")]
    said = capsys.readouterr().out
    if path.stem.startswith("your-model"):
        assert any(text.startswith("<") for text in shown)
        assert (tmp_path / "report.html").is_file() and (tmp_path / "results.csv").is_file()
        assert "trusted" in said
    else:
        # what the text says of the numbers is true
        verdict = module.__dict__["verdict"]
        assert verdict.verdict == "refuted"
        assert verdict.as_first_measured > verdict.after_escalation + 0.2
        fgsm, *_, worst = [*module.__dict__["strong"].results(), *module.__dict__["strong"].worst_case()]
        assert worst.robust_accuracy < fgsm.robust_accuracy
        assert "at least" in said and "# Robustness of" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_installation_and_holds_no_output(path: Path) -> None:
    read = json.loads(path.read_text(encoding="utf-8"))
    assert (read["nbformat"], read["nbformat_minor"]) == (4, 5)
    code = [cell for cell in read["cells"] if cell["cell_type"] == "code"]
    assert "pip" in "".join(code[0]["source"]) and "--constraint" in "".join(code[0]["source"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in read["cells"]}) == len(read["cells"])
    # a line that forces a torch would break the one that Colab has
    assert not any("install torch" in text or "torch==2" in text for text in cells(path, "code"))


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 2
