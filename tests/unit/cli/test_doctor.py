from __future__ import annotations

import json

from tests.support.workplace import Workplace


def test_a_healthy_model(place: Workplace) -> None:
    said = place.assay("doctor --model toy.py:linear --data folder:pictures")
    assert said.code == 0
    assert said.out.startswith("toy.py:linear on folder:pictures\n")
    assert "100.0 % on 18 images" in said.out


def test_what_is_wrong_ends_with_2_and_can_be_read_by_programs(place: Workplace) -> None:
    said = place.assay("doctor --model toy.py:linear --model toy.py:probabilities --data folder:pictures --json")
    assert said.code == 2
    told = json.loads(said.out)
    assert {one["model"] for one in told} == {"toy.py:linear", "toy.py:probabilities"}
    errors = [one for one in told if one["level"] == "error"]
    assert [(one["model"], one["check"]) for one in errors] == [("toy.py:probabilities", "outputs")]


def test_what_cannot_be_loaded_does_not_hide_the_rest(place: Workplace) -> None:
    said = place.assay("doctor --model toy.py:linar --model toy.py:linear --data folder:pictures")
    assert said.code == 2
    assert "Did you mean 'linear'?" in said.out
    assert "100.0 % on 18 images" in said.out


def test_a_study_is_examined_pair_by_pair(place: Workplace) -> None:
    (place.folder / "study.yaml").write_text(
        "study: a\nmodels: [toy.py:linear, toy.py:swapped]\ndata: folder:pictures\n"
        "threats: [{norm: linf, eps: [0.1]}]\nattacks: [fgsm, pgd]\n"
    )
    said = place.assay("doctor study.yaml --images 9")
    assert said.code == 0
    assert said.out.count(" on folder:pictures") == 2
    assert "on 9 images" in said.out


def test_nothing_to_examine(place: Workplace) -> None:
    said = place.assay("doctor --model toy.py:linear")
    assert said.code == 2
    assert "Give a study file, or --model and --data" in said.err


def test_steps_that_end_inside_the_ball_are_named_by_doctor_plan_and_run(place: Workplace) -> None:
    (place.folder / "study.yaml").write_text(
        "study: a\nmodels: toy.py:linear\ndata: folder:pictures\naudit: 'off'\n"
        "threats: [{norm: linf, eps: [0.1]}]\nattacks: [{attack: pgd, steps: 2, step_size: 0.001}]\n"
    )
    told = "2 steps of 0.001 budgets lead at most 0.2 % of the way"
    said = place.assay("doctor study.yaml --json")
    assert said.code == 0
    (one,) = [one for one in json.loads(said.out) if one["check"] == "steps"]
    assert (one["level"], told in one["text"]) == ("warning", True)
    assert told in place.assay("plan study.yaml").out
    assert f"Warning: pgd(steps=2, step_size=0.001): {told}" in place.assay("run study.yaml").err
