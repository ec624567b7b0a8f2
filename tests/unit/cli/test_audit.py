"""`assay audit`, and the audit at the end of `assay run`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

import assay
from assay.evaluation.run import Run
from tests.support.workplace import Workplace

DISTILLED = "--model zoo:mnist-distilled-t100 --data mnist/test --limit 8"


def test_the_distilled_network_is_refuted_with_cause_proof_and_images(place: Workplace) -> None:
    said = place.assay(f"audit {DISTILLED} --eps 0.3 --out runs/d --json")
    assert said.code == 0
    told = json.loads(said.out)
    assert list(told)[:4] == ["verdict", "as_first_measured", "after_escalation", "findings"]
    assert told["verdict"] == "refuted"
    assert told["as_first_measured"] > 0.5
    assert told["after_escalation"] <= 0.05
    zero = next(one for one in told["findings"] if one["check"] == "zero gradients")
    assert zero["flag"]
    assert zero["value"] > 0.8
    assert "exactly zero" in told["why"].lower()
    # the images are what they are said to be
    kept = load_file(Path("runs/d/audit") / told["images"])
    assert len(kept["images"]) == told["broken"]
    assert float((kept["images"] - kept["originals"]).abs().max()) <= 0.3 + 1e-5
    model = assay.load_model("zoo:mnist-distilled-t100")
    with torch.no_grad():
        called = model.module.eval()(kept["images"]).argmax(1)
    assert bool((called != kept["labels"]).all())
    assert torch.equal(called, kept["predictions"])


def test_a_finished_run_is_audited_once_and_again_by_another_preset(place: Workplace) -> None:
    run = f"run {DISTILLED} --attack pgd:steps=10 --eps 0.1 --out runs/r".replace("--limit 8", "--limit 4")
    assert place.assay(f"{run} --audit off").code == 0
    assert Run.open("runs/r").verdicts() == []
    said = place.assay("audit runs/r")
    assert "Audit" in said.out
    assert re.search(r"Escalating zoo:mnist-distilled-t100 on mnist/test.*: at most [\d,]+ passes, ", said.err)
    assert re.search(r"Auditing +100 % +escalation at 0\.1, [\d,]+ of [\d,]+ passes", said.err)
    first = Path("runs/r/audit/verdicts.json").read_bytes()
    assert place.assay("audit runs/r").code == 0
    assert Path("runs/r/audit/verdicts.json").read_bytes() == first
    again = place.assay("audit runs/r --seed 1 --json")
    assert json.loads(again.out)["seed"] == 1


def test_a_run_ends_with_an_audit_and_a_second_one_with_nothing_to_do(place: Workplace) -> None:
    line = "run --model zoo:mnist-pgd --data mnist/test --limit 12 --attack apgd:steps=20 --eps 0.1 --out runs/r"
    said = place.assay(line)
    assert said.code == 0
    assert "Audit" in said.err
    assert Run.open("runs/r").results()[0].verdict in ("trusted", "suspect")
    assert "nothing was left to do" in place.assay(line).err


def test_what_is_wrong_is_said(place: Workplace) -> None:
    said = place.assay(f"run {DISTILLED} --attack fgsm --eps 0.1 --out runs/r --question as_attacked")
    assert said.code == 0
    said = place.assay("audit runs/r")
    assert said.code != 0
    assert "no robust number to audit" in said.err
    said = place.assay("audit runs/r --eps 0.2")
    assert said.code != 0
    assert "--eps would change it" in said.err
    said = place.assay("audit runs/nowhere")
    assert said.code != 0
    said = place.assay(f"run {DISTILLED} --attack fgsm --eps 0.1 --audit deep")
    assert said.code != 0
    assert "quick" in said.err
