"""The drawn run with verdicts on its worst case: one trusted, one suspect with a look, one refuted with images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from assay.evaluation.records.verdicts import (
    FOLDER,
    REFUTED,
    SUSPECT,
    TRUSTED,
    Attempt,
    FamilyLook,
    Finding,
    Verdict,
    keep_verdicts,
)
from assay.evaluation.run import Run
from tests.support.fake_run import DIGIT_BUDGETS, HOSTILE, draw_digit, fake_run

IMAGES = "adversarial-0.safetensors"
CURVES: dict[str, Any] = {
    "losses": {"cross_entropy": [0.0, 0.0, 0.0], "margin": [0.0, 0.6, 1.0]},
    "gaps": {"edges": [0.0, 10.0, 20.0, 30.0], "counts": [1, 4, 2]},
    "zero": {"cross_entropy": 1.0, "margin": 0.0, "dlr": None},
    "growth": {"budgets": [0.5, 1.0, 2.0], "success": [0.0, 0.1, 0.4]},
    "line": {
        "places": [-1.0, 0.0, 1.0],
        "along the gradient": [-9.0, -5.0, 2.0],
        "along a random direction": [-5.0, -5.0, -4.0],
    },
}
LOOKS = (FamilyLook("black box", "black box look", 40, 10, 0, 9 / 60),)
_SAID = {
    "0.01": (TRUSTED, "Every mandatory check passed."),
    "0.02": (SUSPECT, "The gradient is not that of the model; nothing more was broken."),
    "0.03": (REFUTED, "The gradient is exactly zero; margin breaks 20 of 40 survivors."),
}


def audited_run(path: Path) -> Run:
    """Write the drawn digits with a verdict at 0.01, 0.02 and 0.03, and those of other budgets trusted."""
    run = fake_run(path, scenes=False, digits=60)
    merged = {one.eps_written: one for one in run.worst_case() if one.question == "worst_case"}
    cells = [cell for cell, spec in run.manifest["cells"].items() if spec["question"] == "worst_case"]
    keep_verdicts(path, [_verdict(merged[eps], cells) for eps in DIGIT_BUDGETS if eps in merged and eps != "0"])
    originals = torch.stack([draw_digit(label, label) for label in range(10)])
    labels = torch.arange(10)
    tensors = {"originals": originals, "images": originals * 0.9, "labels": labels, "predictions": labels.roll(1)}
    save_file(tensors, path / FOLDER / IMAGES)
    return Run.open(path)


def _verdict(result: Any, cells: list[str]) -> Verdict:
    called, why = _SAID.get(result.eps_written, _SAID["0.01"])
    refuted = called == REFUTED
    first = result.survived / result.n
    findings = (
        Finding("zero gradients", 0.0, 0.05, False, True, 60, "No gradient is zero.", ""),
        Finding("twin distances", None, None, False, True, 0, "Not asked: no twin.", ""),
        Finding("true gradients", 0.1, 0.5, called != TRUSTED, True, 60, f"They disagree {HOSTILE}.", "Climb it."),
    )
    attempts = (Attempt("margin", "it does not saturate", result.survived, result.survived // 2, 900),)
    return Verdict(
        cells=dict.fromkeys(cells, called), model=result.model, data=result.data, threat=result.threat,
        unit=result.unit, eps=result.eps, eps_written=result.eps_written, goal=result.goal, preset="quick", seed=0,
        checks=1, verdict=called, why=why, n=result.n, survived=result.survived,
        asked=result.survived if refuted else 0, broken=result.survived // 2 if refuted else 0,
        as_first_measured=first, after_escalation=(result.survived - result.survived // 2) / result.n if refuted
        else first, findings=findings, attempts=attempts if refuted else (), passes=1200,
        escalation=900 if refuted else 0, evaluation_passes=4800, per_check={"black_box": 300}, seconds=4.0,
        curves=CURVES, images=IMAGES if refuted else None, looks=LOOKS if called == SUSPECT else (),
        resolution=LOOKS[0].bound if called == SUSPECT else None,
    )  # fmt: skip
