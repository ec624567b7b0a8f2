"""The attack `universal` in a study."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput
from assay.evaluation.study.spec import Study
from assay.patches.universal import Universal
from tests.support.tiny import SIZE, images, run_here


def test_a_study_runs_it_and_names_it_by_content(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    file = tmp_path / "u.safetensors"
    Universal(0.2 * (images(1)[0][0] - 0.5).sign(), "linf", 0.2).save(file)
    spec = {
        "study": "t", "models": [tiny_model], "data": [tiny_source], "question": "as_attacked",
        "threats": [{"norm": "linf", "eps": [0.1, 0.2]}], "attacks": [{"attack": "universal", "file": str(file)}],
    }  # fmt: skip
    run = run_here(tmp_path / "a", Study.of(spec))
    sizes = run.records().to_pydict()
    assert set(sizes["forwards"]) <= {1, 2}
    assert max(sizes["size_linf"]) == pytest.approx(0.2, abs=1e-5)
    first = next(iter(run.cells))
    Universal(torch.zeros(3, SIZE, SIZE), "linf", 0.2).save(file)
    assert next(iter(run_here(tmp_path / "b", Study.of(spec)).cells)) != first
    with pytest.raises(BadInput, match="needs a file"):
        run_here(tmp_path / "c", Study.of({**spec, "attacks": ["universal"]}))
