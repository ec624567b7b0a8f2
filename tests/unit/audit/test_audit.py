"""Auditing small runs: a verdict per number, kept and made anew when it must be, with images that show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from assay.audit.audit import audit_run
from assay.audit.claims import groups
from assay.core.errors import BadInput
from assay.evaluation.cell import Cell
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import FOLDER, Verdict
from assay.evaluation.run import Run
from tests.unit.evaluation.tiny import run_here, study, write_model, write_pictures

LINF = {"norm": "linf", "eps": ["0", "2/255"]}
# where nobody survives an audit is quick, and is kept as any other
NOBODY = {"norm": "linf", "eps": ["0", "0.5"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 20)


def audited(folder: Path, given: Any, **more: Any) -> tuple[Run, list[Verdict]]:
    run = run_here(folder, given)
    return run, audit_run(run, **more)


def check_images(run: Run, verdict: Verdict) -> None:
    """Load the images of a verdict again, and ask the model itself about them."""
    assert verdict.images is not None
    with safe_open(run.path / FOLDER / verdict.images, "pt") as file:
        images, originals, labels, told = (
            file.get_tensor(name) for name in ("images", "originals", "labels", "predictions")
        )
        ids = json.loads(file.metadata()["ids"])
    assert len(images) == len(ids) == len(set(ids)) == verdict.broken
    cell = Cell.of(run.cells[next(iter(verdict.cells))])
    with torch.no_grad():
        bench = Loader().bench(cell)
        said = bench.classifier.module(images).argmax(1)
    assert torch.equal(said, told)
    assert (said != labels).all()
    threat = Experiment.of(cell, Loader()).threat.in_units_of(bench.classifier.std).at(verdict.eps)
    assert threat.allows(threat.size(images, originals)).all()
    assert threat.in_box(images).all()


def test_a_verdict_is_kept_and_made_anew_when_it_must_be(model: str, tmp_path: Path) -> None:
    said: list[str] = []
    given = study(model, write_pictures(tmp_path / "few", 6), threats=NOBODY)
    run, first = audited(tmp_path / "run", given, say=said.append)
    # at budget 0 there is nothing to withstand
    assert [one.eps for one in first] == [0.5]
    assert len(said) == 1
    assert audit_run(run, say=said.append) == first == run.verdicts()
    assert len(said) == 1
    assert audit_run(run, seed=1, say=said.append)[0].seed == 1
    assert audit_run(run, "standard", seed=1, say=said.append)[0].preset == "standard"
    assert len(said) == 3
    # one that went deeper serves
    assert audit_run(run, "quick", seed=1, say=said.append)[0].preset == "standard"
    assert len(said) == 3
    assert len(run.verdicts()) == 1


def test_another_attack_makes_another_number(model: str, source: str, tmp_path: Path) -> None:
    usual = study(model, source, threats=NOBODY, attacks=["fgsm"])
    _, first = audited(tmp_path / "a", usual)
    more = study(model, source, threats=NOBODY, attacks=["fgsm", {"attack": "pgd", "steps": 20}])
    run = run_here(tmp_path / "b", more)
    (run.path / FOLDER).mkdir()
    (run.path / FOLDER / "verdicts.json").write_text((tmp_path / "a" / FOLDER / "verdicts.json").read_text())
    # the old verdict was about another number
    assert run.verdicts() == []
    assert {one.verdict for one in (*run.results(), *run.worst_case())} == {None}
    said: list[str] = []
    again = audit_run(run, say=said.append)
    assert len(said) == 1
    assert len(again[0].cells) == 2 > len(first[0].cells)


def test_one_attack_alone_has_no_verdict(model: str, source: str, tmp_path: Path) -> None:
    given = study(model, source, threats=LINF, attacks=["fgsm"], question="as_attacked")
    run, none = audited(tmp_path / "run", given)
    assert none == [] == groups(run)
    assert {one.verdict for one in run.results()} == {None}


def test_a_model_that_is_wrong_everywhere_has_nothing_to_withstand(tmp_path: Path) -> None:
    wrong = write_model(tmp_path / "model")
    path = Path(wrong.split(":")[0])
    path.write_text(path.read_text().replace("self.patterns.T) * 2", "self.patterns.T) * -2"))
    given = study(wrong, write_pictures(tmp_path / "p", 12), threats=LINF, attacks=["fgsm"])
    _, (verdict,) = audited(tmp_path / "run", given)
    assert (verdict.n, verdict.survived, verdict.verdict, verdict.passes) == (12, 0, "suspect", 0)


def test_where_nobody_survives_there_is_nobody_to_ask(model: str, source: str, tmp_path: Path) -> None:
    given = study(model, source, threats={"norm": "linf", "eps": ["0.5"]}, attacks=[{"attack": "pgd", "steps": 20}])
    _, (verdict,) = audited(tmp_path / "run", given)
    assert (verdict.survived, verdict.asked, verdict.broken, verdict.after_escalation) == (0, 0, 0, 0.0)
    assert verdict.images is None
    assert verdict.verdict != "refuted"


def test_a_weak_attack_is_refuted_with_images_that_hold(model: str, source: str, tmp_path: Path) -> None:
    attacks = [{"attack": "pgd", "steps": 1, "step_size": 0.0, "random_start": False}]
    given = study(model, source, threats={"norm": "linf", "eps": ["16/255"]}, attacks=attacks)
    run, (verdict,) = audited(tmp_path / "run", given)
    assert verdict.verdict == "refuted"
    assert verdict.after_escalation < verdict.as_first_measured >= 0.9
    check_images(run, verdict)
    assert {one.verdict for one in run.worst_case()} == {"refuted"}


def test_another_attack_of_the_run_refutes_one_of_its_numbers(model: str, source: str, tmp_path: Path) -> None:
    weak = {"attack": "pgd", "steps": 1, "step_size": 0.0, "random_start": False}
    attacks = [weak, {"attack": "pgd", "steps": 40}, {"attack": "square", "queries": 100}]
    given = study(model, source, threats={"norm": "linf", "eps": ["16/255"]}, attacks=attacks)
    run, (verdict,) = audited(tmp_path / "run", given)
    assert verdict.verdict != "refuted"
    told = {Cell.of(run.cells[digest]).attack.label: one for digest, one in verdict.cells.items()}
    assert next(one for label, one in told.items() if "steps=1" in label) == "refuted"
    assert list(told.values()).count("refuted") < 3


@pytest.mark.parametrize(
    ("threat", "attack"),
    [
        ({"norm": "l2", "eps": ["1.0"]}, {"attack": "fgm"}),
        ({"norm": "l1", "eps": ["10"]}, {"attack": "fgm"}),
        ({"norm": "l0", "eps": ["12"]}, {"attack": "uniform-noise"}),
        ({"norm": "linf", "eps": ["normalized 0.2"]}, {"attack": "fgsm"}),
        ({"norm": "linf", "eps": ["8/255"], "grid": 255}, {"attack": "fgsm"}),
    ],
    ids=lambda one: str(one.get("norm", "")),
)
def test_every_norm_unit_and_grid(threat: Any, attack: Any, source: str, tmp_path: Path) -> None:
    path = Path(write_model(tmp_path / "model").split(":")[0])
    text = path.read_text().replace(
        "Classifier(Matcher(), input_shape=(3, 8, 8))",
        "Classifier(Matcher(), input_shape=(3, 8, 8), mean=(0.0,) * 3, std=(0.25,) * 3)",
    )
    path.write_text(text)
    run, (verdict,) = audited(
        tmp_path / "run", study(f"{path}:factory", source, threats=threat, attacks=[attack], chunk=20)
    )
    assert verdict.verdict != "trusted"
    if verdict.images:
        check_images(run, verdict)


def test_probabilities_as_output(tmp_path: Path, source: str) -> None:
    path = Path(write_model(tmp_path / "model").split(":")[0])
    path.write_text(path.read_text().replace("self.patterns.T) * 2", "self.patterns.T * 2).softmax(1)"))
    spec = {"model": f"{path}:factory", "outputs": "probabilities"}
    _, (verdict,) = audited(tmp_path / "run", study(spec, source, threats=LINF, attacks=["fgsm"]))
    assert next(one for one in verdict.findings if one.check == "probabilities").flag


def test_a_run_that_went_on_is_audited_again(model: str, source: str, tmp_path: Path) -> None:
    given = study(model, source, threats=NOBODY, attacks=["fgsm"])
    run, (first,) = audited(tmp_path / "run", given)
    file = run.path / FOLDER / "verdicts.json"
    plain = json.loads(file.read_text())
    file.write_text(json.dumps([{**plain[0], "n": 8}]))
    assert audit_run(run)[0].n == first.n == 20


def test_an_unknown_preset_is_refused(model: str, source: str, tmp_path: Path) -> None:
    run = run_here(tmp_path / "run", study(model, source, threats=LINF, attacks=["fgsm"]))
    with pytest.raises(BadInput, match="Did you mean"):
        audit_run(run, "quik")
