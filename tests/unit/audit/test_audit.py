"""Auditing small runs: a verdict per number, kept and made anew when it must be, with images that show it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from assay.audit.audit import PRESETS, audit_run
from assay.audit.progress import AuditProgress
from assay.audit.robust_numbers import groups
from assay.console.verdict_text import lines
from assay.core.errors import BadInput
from assay.evaluation.cell import Cell
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import FOLDER, Verdict
from assay.evaluation.run import Run
from tests.support.tiny import run_here, study, write_model, write_pictures

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


WEAK: Any = {"attack": "pgd", "steps": 1, "step_size": 0.0, "random_start": False}
TWO: Any = {"norm": "linf", "eps": ["4/255", "16/255"]}


def test_an_interrupted_audit_keeps_what_it_found_and_goes_on(
    model: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = audited(tmp_path / "whole", study(model, source, threats=TWO, attacks=[WEAK]))
    assert [one.verdict for one in whole][1] == "refuted"
    run = run_here(tmp_path / "run", study(model, source, threats=TWO, attacks=[WEAK]))
    monkeypatch.setattr("assay.audit.escalate.AT_ONCE", 5)

    def stop(now: AuditProgress) -> None:
        if (now.stage, now.budget) == ("escalation", "16/255") and now.passes > after:
            raise KeyboardInterrupt

    after = whole[0].escalation + whole[1].escalation // 2
    with pytest.raises(KeyboardInterrupt):
        audit_run(run, on_progress=stop)
    first, cut = run.verdicts()
    assert first == dataclasses.replace(whole[0], seconds=first.seconds)
    assert cut.stopped and cut.verdict != "trusted" and "the escalation was stopped" in cut.why
    assert cut.skipped
    assert 0 < cut.escalation < whole[1].escalation
    if cut.images:
        check_images(run, cut)
    spent: list[int] = []
    again, done = audit_run(run, on_progress=lambda now: spent.append(now.passes))
    # what was finished is not tried again, and what was found is kept
    assert again == first
    assert not done.stopped and done.verdict == "refuted"
    assert (done.broken, done.after_escalation) == (whole[1].broken, whole[1].after_escalation)
    assert done.escalation >= cut.escalation
    assert sum(one.broken for one in done.attempts) == done.broken
    check_images(run, done)


def test_progress_tells_the_cost_before_and_the_rest_on_the_way(model: str, source: str, tmp_path: Path) -> None:
    run = run_here(tmp_path / "run", study(model, source, threats=TWO, attacks=[WEAK]))
    told: list[AuditProgress] = []
    verdicts = audit_run(run, on_progress=told.append)
    assert [one.stage for one in told] == sorted((one.stage for one in told), key=["evidence", "escalation"].index)
    escalation = [one for one in told if one.stage == "escalation"]
    assert (escalation[0].passes, escalation[0].share) == (0, 0) and (escalation[0].seconds_left or 0) > 0
    assert escalation[-1].share == 1 and escalation[-1].seconds_left == 0
    assert escalation[-1].passes == sum(one.escalation for one in verdicts) <= escalation[0].most
    shares = [one.share for one in escalation]
    assert shares == sorted(shares)
    assert {"margin"} <= {one.tried for one in escalation} and {one.budget for one in escalation} == {"4/255", "16/255"}
    for one in verdicts:
        # four times the evaluation's passes, or 200 for each survivor
        assert one.escalation_limit is not None and one.escalation <= one.escalation_limit
        assert one.escalation_limit >= 200 * one.asked


def test_a_limit_that_cuts_is_told_and_makes_nothing_rosier(
    model: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_here(tmp_path / "run", study(model, source, threats=TWO, attacks=[WEAK]))
    small = dataclasses.replace(PRESETS["quick"], times=1, each=0)
    monkeypatch.setitem(PRESETS, "quick", small)  # type: ignore[arg-type]  # a plain dictionary
    for one in audit_run(run):
        assert one.escalation <= (one.escalation_limit or 0) < 200 * one.asked
        assert one.skipped and one.verdict != "trusted"
        assert "the limit of passes was reached before" in one.why and one.skipped[0] in one.why
        assert any(line.strip().startswith("skipped") for line in lines(one))


def test_every_family_looks_at_numbers_of_images_enough_and_says_what_it_could_miss(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.audit.families.CLOSEST", 1)
    threats = {"norm": "linf", "eps": ["0.5/255", "1/255"]}
    attacks = [{"attack": "pgd", "steps": 20, "objective": "margin"}]
    given = study(model, write_pictures(tmp_path / "p", 60), threats=threats, attacks=attacks, chunk=60)
    stages: list[str] = []
    run, verdicts = audited(tmp_path / "run", given, on_progress=lambda now: stages.append(now.stage))
    assert list(dict.fromkeys(stages)) == ["evidence", "looks"]
    for one in verdicts:
        assert (one.verdict, one.findings != ()) == ("trusted", True), one.why
        assert [look.family for look in one.looks] == ["gradient", "minimum norm", "black box"]
        assert {look.population for look in one.looks} == {one.survived}
        assert one.resolution == max(look.bound for look in one.looks) <= 0.05
        assert one.per_check["gradient look"] >= 0
    # what withstood at 1/255 is not asked again at 0.5/255
    small, large = (one.per_check["gradient look"] for one in verdicts)
    assert 60 * (verdicts[0].survived - verdicts[1].survived) <= small < large
    assert audit_run(run) == verdicts


def test_an_unknown_preset_is_refused(model: str, source: str, tmp_path: Path) -> None:
    run = run_here(tmp_path / "run", study(model, source, threats=LINF, attacks=["fgsm"]))
    with pytest.raises(BadInput, match="Did you mean"):
        audit_run(run, "quik")


CHAIN = "bit-depth:bits=5|max-softmax:threshold=-0.5"
TRY = {"attack": "pgd", "steps": 10, "objective": "margin"}


def test_a_number_that_ignores_the_defence_has_no_verdict(model: str, source: str, tmp_path: Path) -> None:
    without = {**TRY, "surrogate": model}
    given = study(f"{model}|{CHAIN}", source, threats={"norm": "linf", "eps": ["8/255"]}, attacks=[without])
    said: list[str] = []
    run, none = audited(tmp_path / "run", given, say=said.append)
    assert none == []
    assert len(said) == 1
    assert "not adaptive, so no verdict" in said[0]
    assert {one.verdict for one in run.worst_case()} == {None}


def test_what_stands_inside_a_defence_is_its_twin(model: str, tmp_path: Path) -> None:
    attacks = [TRY, {**TRY, "surrogate": model}, {"attack": "square", "queries": 10}]
    few, threats = write_pictures(tmp_path / "few", 4), {"norm": "linf", "eps": ["20/255"]}
    run, (verdict,) = audited(tmp_path / "run", study(f"{model}|{CHAIN}", few, threats=threats, attacks=attacks))
    findings = {one.check: one for one in verdict.findings}
    assert findings["twin distances"].value is not None
    assert findings["other norms"].value is not None
    assert findings["forced rejection"].n == findings["refusals in company"].n > 0
    assert not findings["refusals in company"].flag
    # nobody said how many clean images a written threshold may refuse
    assert findings["threshold drift"].value is None
    assert {"past the defence", "square"} <= {one.name for one in verdict.attempts}
    assert verdict.survived > 0
    # what ignores the defence breaks what it breaks, and has no verdict of its own
    told = {one.attack: one.verdict for one in run.results()}
    assert [name for name, one in told.items() if one is None] == [name for name in told if "surrogate" in name]
    assert audit_run(run) == [verdict]
