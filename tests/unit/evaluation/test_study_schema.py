from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from assay.attacks import ATTACKS
from assay.core.errors import BadInput
from assay.evaluation.study.spec import Study, study_schema
from tests.unit.evaluation.test_study import L2, PLAIN

SCHEMA = Draft202012Validator(study_schema())

GOOD: list[dict[str, Any]] = [
    {},
    {"models": ["zoo:mnist-cnn", {"model": "torchvision:resnet50", "outputs": "probabilities"}]},
    {"data": {"source": "mnist/test", "sample": 500, "seed": 1, "ids": ["a"]}},
    {"threats": [{"norm": "linf", "eps": ["8/255", 0.1, ".5", "normalized 0.02"][:3], "box": False, "grid": 255}]},
    {"threats": {"norm": "linf", "eps": ["normalized 0.02", "normalized 1e-1"]}},
    {"threats": L2, "attacks": ["fgm", {"attack": "pgd", "steps": 3, "step_size": 0.1, "restarts": 2}]},
    {"attacks": [{"attack": "bim", "objective": "margin"}, "uniform-noise"], "question": "as_attacked"},
    {"goal": "targeted 3", "order": "descending", "seed": 4, "chunk": 16},
    {"grids": [{"attacks": "pgd"}, {"seed": 2}]},
    {"audit": False},
    {"audit": "thorough", "data": {"source": "mnist/test", "limit": 5, "part": "rest 3", "labels": "predicted"}},
    {"threats": {"norm": "l2", "eps": [1, 2], "channels": 1, "mask": "m.png"}, "attacks": "pgd"},
    {"attacks": [{"attack": "ti-fgsm", "kernel": 5}, {"attack": "universal", "file": "u.safetensors"}]},
    {"attacks": {"attack": "jsma", "outputs": "logits", "temperature": 0.5}, "threats": {"norm": "l0", "eps": 3}},
]
BAD: list[dict[str, Any]] = [
    {"model": "zoo:mnist-cnn"},
    {"models": {"model": "zoo:mnist-cnn", "outputs": "logit"}},
    {"data": {"source": "mnist/test", "limit": 0}},
    {"threats": {"norm": "l3", "eps": 1}},
    {"threats": {"norm": "linf", "eps": "eight"}},
    {"threats": {"norm": "linf", "eps": -1}},
    {"threats": {"norm": "linf"}},
    {"attacks": "fgsmm"},
    {"attacks": {"attack": "pgd", "stepz": 3}},
    {"attacks": {"attack": "pgd", "steps": 0}},
    {"attacks": {"attack": "ti-fgsm", "kernel": 4}},
    {"attacks": {"attack": "apgd", "rho": 1.5}},
    {"attacks": {"attack": "square", "p": 0}},
    {"attacks": {"attack": "autoattack", "version": "fast"}},
    {"attacks": {"attack": "universal"}, "models": []},
    {"attacks": []},
    {"threats": []},
    {"threats": {"norm": "linf", "eps": []}},
    {"threats": {"norm": "linf", "eps": 0.1, "channels": [-1]}},
    {"data": {"source": "mnist/test", "ids": []}},
    {"data": {"source": "mnist/test", "part": "rest"}},
    {"models": {"outputs": "logits"}},
    {"audit": "full"},
    {"order": "down"},
    {"grids": []},
    {"grids": [{"attacks": "fgsmm"}]},
    {"question": "best"},
    {"goal": "targeted"},
    {"seed": "x"},
    {"chunk": 0},
    {"study": "a b"},
    {"grids": [{"study": "b"}]},
]


def test_the_schema_is_one_and_is_plain() -> None:
    Draft202012Validator.check_schema(study_schema())
    assert json.loads(json.dumps(study_schema())) == study_schema()


@pytest.mark.parametrize("changes", GOOD, ids=repr)
def test_what_a_study_takes_the_schema_takes(changes: dict[str, Any]) -> None:
    SCHEMA.validate({**PLAIN, **changes})
    SCHEMA.validate(Study.of({**PLAIN, **changes}).plain())


@pytest.mark.parametrize("changes", BAD, ids=repr)
def test_what_a_study_refuses_the_schema_refuses(changes: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid({**PLAIN, **changes})
    with pytest.raises(BadInput):
        Study.of({**PLAIN, **changes})


def test_every_attack_is_in_the_schema() -> None:
    for name in ATTACKS:
        norms = {"norm": ATTACKS[name].norms[0], "eps": 0.5}
        SCHEMA.validate({**PLAIN, "attacks": {"attack": name, "restarts": 2}, "threats": norms})
