"""Errors say what was probably meant."""

from __future__ import annotations

from assay.core.errors import AssayError, BadInput, ModelError, did_you_mean


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("resnet1O1", ["resnet101", "vgg16"]) == " Did you mean 'resnet101'?"
    assert did_you_mean("PGD", {"pgd": 1, "fgsm": 2}) == " Did you mean 'pgd'?"
    assert did_you_mean("zebra", ["pgd", "fgsm"]) == ""
    assert did_you_mean("", []) == ""


def test_errors_are_what_python_calls_them() -> None:
    assert issubclass(BadInput, AssayError)
    assert issubclass(BadInput, ValueError)
    assert issubclass(ModelError, AssayError)
    assert BadInput("no").exit_code == 2
