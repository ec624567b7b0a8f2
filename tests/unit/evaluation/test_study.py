from __future__ import annotations

from typing import Any

import pytest

from assay.core.budget import Budget
from assay.core.errors import BadInput
from assay.evaluation.study.spec import Study

PLAIN: dict[str, Any] = {
    "study": "a",
    "models": "zoo:mnist-cnn",
    "data": "mnist/test",
    "threats": {"norm": "linf", "eps": "8/255"},
    "attacks": "fgsm",
}


L2: dict[str, Any] = {"norm": "l2", "eps": 1}


def read(**changes: Any) -> Study:
    return Study.of({**PLAIN, **changes})


def test_short_forms_are_the_long_ones() -> None:
    long = {
        "study": "a",
        "grids": [
            {
                "models": [{"model": "zoo:mnist-cnn", "outputs": "logits"}],
                "data": [{"source": "mnist/test", "seed": 0}],
                "threats": [{"norm": "linf", "eps": ["8/255"], "box": True, "grid": None}],
                "attacks": [{"attack": "fgsm"}],
                "question": "worst_case",
                "goal": "untargeted",
                "order": "ascending",
                "seed": 0,
            }
        ],
    }
    assert read() == Study.of(long)


def test_a_resolved_study_reads_back_to_itself() -> None:
    study = read(
        data={"source": "mnist/test", "sample": 50, "seed": 3, "ids": ["mnist/test/00001"]},
        threats=[{"norm": "linf", "eps": ["normalized 0.02", "normalized 0.1"], "box": False}, L2],
        attacks=[{"attack": "pgd", "steps": 20, "objective": "margin", "restarts": 2}, "bim"],
        goal="out-of-top 5",
        chunk=7,
    )
    assert Study.of(study.plain()) == study


def test_grids_inherit_what_they_do_not_say() -> None:
    study = read(grids=[{"attacks": "pgd"}, {"threats": {"norm": "l2", "eps": 1}, "attacks": "fgm", "seed": 5}], seed=1)
    first, second = study.grids
    assert [first.attacks[0].label, second.attacks[0].label] == ["pgd", "fgm"]
    assert [first.threats[0].norm, second.threats[0].norm] == ["linf", "l2"]
    assert [first.seed, second.seed] == [1, 5]


def test_budgets_are_kept_as_written_and_sorted() -> None:
    study = read(threats={"norm": "linf", "eps": ["8/255", 0.01, "0"]})
    assert study.grids[0].threats[0].eps == (Budget("0", 0.0), Budget("0.01", 0.01), Budget("8/255", 8 / 255))


def test_budgets_above_one_are_fine_where_they_make_sense() -> None:
    study = read(threats=[{"norm": "l2", "eps": 3}, {"norm": "l1", "eps": 12.5}], attacks="pgd")
    assert [threat.eps[0].value for threat in study.grids[0].threats] == [3, 12.5]


def test_options_equal_to_the_defaults_are_left_out() -> None:
    same = read(attacks=[{"attack": "pgd", "steps": 40, "restarts": 1, "objective": "cross_entropy"}])
    assert same == read(attacks=["pgd"])
    assert same.grids[0].attacks[0].label == "pgd"
    assert read(attacks=[{"attack": "pgd", "steps": 5}]).grids[0].attacks[0].label == "pgd(steps=5)"


def test_a_threat_that_is_not_the_usual_one_says_so() -> None:
    threats = [{"norm": "linf", "eps": 0.1, "box": False}, {"norm": "linf", "eps": 0.1, "grid": 255}]
    labels = [threat.label for threat in read(threats=threats).grids[0].threats]
    assert labels == ["linf no-box", "linf grid=255"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threats": {"norm": "linf", "eps": 8}}, "threats.eps: 8 is larger than the image range [0, 1]. Did you"),
        ({"threats": [{"norm": "linf", "eps": [0.1, 8]}]}, "threats[0].eps[1]: 8 is larger"),
        ({"threats": {"norm": "linf", "eps": -0.1}}, "threats.eps: The budget -0.1 is negative"),
        ({"threats": {"norm": "linf", "eps": float("nan")}}, "threats.eps: The budget is NaN"),
        ({"threats": {"norm": "l2", "eps": float("inf")}}, "threats.eps: the budget is infinite"),
        ({"threats": {"norm": "linf", "eps": "8/0"}}, "divides by zero"),
        ({"threats": {"norm": "linf", "eps": "about 8"}}, "'about 8' is not a budget"),
        ({"threats": {"norm": "patch", "eps": [3, 2.5]}}, "threats.eps[1]: 2.5 is not the size of a patch"),
        ({"threats": {"norm": "patch", "eps": 3}}, "attacks: fgsm works in linf, ycbcr, not in patch"),
        ({"threats": {"norm": "linf", "eps": True}}, "True is not a budget"),
        ({"threats": {"norm": "linf", "eps": []}}, "threats.eps: there is no budget"),
        ({"threats": {"norm": "linf", "eps": ["0.1", "1/10"]}}, "'1/10' is the same budget as '0.1'"),
        ({"threats": {"norm": "linf", "eps": ["0.1", "normalized 0.2"]}}, "different units. Write them as two threats"),
        ({"threats": {"norm": "lins", "eps": 0.1}}, "Unknown norm 'lins'. Did you mean 'linf'?"),
        ({"threats": {"norm": "linf"}}, "threats.eps: is missing. Write one or more budgets"),
        ({"threats": {"norm": "linf", "eps": 0.1, "grid": 0}}, "threats.grid: 0: "),
        ({"threats": {"norm": "linf", "eps": 0.1, "boxx": True}}, "Unknown key 'boxx'. Did you mean 'box'?"),
        ({"attacks": "fgsmm"}, "attacks: Unknown attack 'fgsmm'. Did you mean 'fgsm'?"),
        ({"attacks": "pgd:steps=2"}, "Unknown attack 'pgd:steps=2'. Options stand beside the name here: {attack: pgd,"),
        ({"attacks": ["fgsm", {"attack": "pgd", "stepz": 3}]}, "attacks[1].stepz: Attack 'pgd' has no option 'stepz'."),
        ({"attacks": {"attack": "pgd", "steps": 0}}, "attacks.steps: Attack 'pgd': steps is 0"),
        ({"attacks": {"attack": "pgd", "restarts": 0}}, "restarts is 0"),
        ({"attacks": {"attack": "pgd", "objective": "marjin"}}, "Did you mean 'margin'?"),
        ({"attacks": ["fgsm", "fgsm"]}, "attacks[1]: fgsm is there already"),
        ({"attacks": []}, "attacks: is empty. Write one or more"),
        ({"attacks": "fgsm", "threats": {"norm": "l2", "eps": 1}}, "attacks: fgsm works in linf, ycbcr, not in l2"),
        ({"models": {"model": "zoo:mnist-cnn", "outputs": "logit"}}, "models.outputs: Unknown value 'logit'."),
        ({"models": {"name": "zoo:mnist-cnn"}}, "models.name: Unknown key 'name'. There are: model, outputs, like."),
        ({"data": {"source": "mnist/test", "limit": 0}}, "data.limit: 0: "),
        ({"data": {"source": "mnist/test", "smaple": 5}}, "Unknown key 'smaple'. Did you mean 'sample'?"),
        ({"question": "worst-case"}, "question: Unknown value 'worst-case'. Did you mean 'worst_case'?"),
        ({"goal": "targetted 3"}, "goal: 'targetted 3' is not a goal. Did you mean 'targeted'?"),
        ({"goal": "out-of-top 0"}, "'out-of-top 0' is not a goal"),
        ({"order": "descend"}, "Did you mean 'descending'?"),
        ({"seed": "x"}, "seed: 'x': "),
        ({"seed": True}, "seed: True: "),
        ({"chunk": 0}, "chunk: 0: "),
        ({"study": "a/b"}, "study: 'a/b' cannot name a folder"),
        ({"stduy": "a"}, "stduy: Unknown key 'stduy'. Did you mean 'study'?"),
        ({"grids": []}, "grids: is empty"),
        ({"grids": [{"atacks": "pgd"}]}, "grids[0].atacks: Unknown key 'atacks'. Did you mean 'attacks'?"),
        ({"grids": [{"attacks": "fgsmm"}]}, "grids[0].attacks: Unknown attack 'fgsmm'"),
        ({"grids": [{"seed": 1}], "attacks": "fgsmm"}, "attacks: Unknown attack 'fgsmm'"),
    ],
)
def test_slips_are_named_with_their_place_and_the_fix(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(**changes)
    assert said in str(caught.value)
    assert "grids[0]" not in str(caught.value) or "grids" in changes


def test_missing_keys_are_named_with_an_example() -> None:
    with pytest.raises(BadInput) as caught:
        Study.of({"study": "a"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["models", "data", "threats", "attacks"]


def test_something_else_is_no_study() -> None:
    with pytest.raises(BadInput, match="A study is a mapping"):
        Study.of(["fgsm"])  # type: ignore[arg-type]


def test_every_slip_is_told_at_once_and_only_once() -> None:
    with pytest.raises(BadInput) as caught:
        read(attacks="fgsmm", seed="x", threats={"norm": "linf", "eps": [8, 9]}, grids=[{"goal": "x"}, {"goal": "x"}])
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines))
    places = {line.split(":")[0] for line in lines}
    assert places == {"attacks", "seed", "threats.eps[0]", "grids[0].goal", "grids[1].goal"}


def test_the_audit_is_among_the_keys_suggested_beside_a_wrong_one() -> None:
    with pytest.raises(BadInput, match=r"Unknown key 'audti'\. Did you mean 'audit'\? There are: study, audit, models"):
        Study.of({**PLAIN, "audti": "off"})


def test_options_are_checked_together() -> None:
    """Few queries are enough for few pairs, though not for as many as there are by default."""
    (attack,) = read(attacks={"attack": "spsa", "queries": 70, "pairs": 8}).grids[0].attacks
    assert attack.options == {"queries": 70, "pairs": 8}
    read(attacks={"attack": "spsa", "pairs": 8, "queries": 70})


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"attack": "spsa", "queries": 70}, "attacks.queries: 70 queries pay for no step of 130"),
        ({"attack": "spsa", "queries": 70, "pairs": 40}, "attacks: 70 queries pay for no step of 82"),
        ({"attack": "square", "eot": 3}, "attacks.eot: Attack 'square' asks for no gradients, eot is for attacks that"),
        ({"attack": "ddn", "smallest": 3}, "attacks.smallest: Attack 'ddn' looks for the smallest change by itself"),
        ({"attack": "ti-fgsm", "steps": 3, "kernel": 4}, "attacks.kernel: Attack 'ti-fgsm': kernel is 4, expected an"),
        ({"attack": "pgd", "keeps": "first"}, "attacks.keeps: Attack 'pgd': keeps is 'first'; what is kept follows"),
    ],
)
def test_a_slip_is_placed_at_the_option_that_is_at_fault(attack: dict[str, Any], said: str) -> None:
    threats = L2 if attack["attack"] == "ddn" else PLAIN["threats"]
    with pytest.raises(BadInput) as caught:
        read(attacks=attack, threats=threats)
    assert str(caught.value).startswith(said)


def test_options_that_change_nothing_are_left_out() -> None:
    plain = {"attack": "square", "eot": 1, "queries": 5000, "surrogate": None, "restarts": 2}
    assert read(attacks=plain).grids[0].attacks[0].options == {"restarts": 2}
