"""One small study of one model, and its records without what names the model or the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assay.evaluation.execution.options import Options
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study

UNLIKE = ("cell", "model", "seconds", "form")
"""Columns in which the same model at two places may differ; `form` is how torch computes: a file's twin, here."""


def study_of(folder: Path, model: str, data: str, attacks: list[Any], threat: dict[str, Any], **more: Any) -> Path:
    """Write a study of one model into a new folder, and return its file."""
    folder.mkdir(parents=True)
    outputs = more.pop("outputs", "logits")
    study = {"study": folder.name, "models": [{"model": model, "outputs": outputs}], "data": data}
    study |= {"threats": threat, "attacks": attacks, "chunk": 8, "audit": "off", **more}
    file = folder / "study.yaml"
    # JSON is YAML
    file.write_text(json.dumps(study))
    return file


def records_of(run: Run) -> list[dict[str, Any]]:
    """Return the records, without `UNLIKE`."""
    return [{k: v for k, v in row.items() if k not in UNLIKE} for row in run.records().to_pylist()]


def studied(
    folder: Path, model: str, data: str, attacks: list[Any], threat: dict[str, Any], **more: Any
) -> list[dict[str, Any]]:
    """Run a study of one model in a new folder, and return its records."""
    file = study_of(folder, model, data, attacks, threat, **more)
    run = run_study(load_study(file), folder / "run", Options())
    assert run.status == "success"
    return records_of(run)
