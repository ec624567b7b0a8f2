from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.models import Classifier, Normalized, load_model
from assay.models.failures import blamed, failed_call, in_short, model_error, users_frame


class Fails(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


def caught(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_model_is_named_by_its_spec_wherever_it_failed_inside() -> None:
    classifier = Classifier(Normalized(nn.Sequential(Fails(KeyError("x"))), (0.5,) * 3, (0.5,) * 3), spec="mine:net")
    error = caught(lambda: classifier.module(torch.zeros(4, 3, 2, 2)))
    call = failed_call(error)
    assert call is not None and (call.name, call.shape) == ("mine:net", (4, 3, 2, 2))
    told = str(blamed(error))
    assert told.startswith(
        "The model mine:net failed on images [N, 3, 2, 2] in [0, 1]: KeyError: 'x' (test_failures.py:"
    )
    nameless = str(blamed(caught(lambda: Fails(KeyError("x"))(torch.zeros(4, 3, 2, 2)))))
    assert nameless.startswith("The model failed on images [N, 3, 2, 2] in [0, 1]: KeyError")


def test_what_is_no_image_is_not_called_one() -> None:
    told = str(blamed(caught(lambda: Fails(ValueError("x"))(torch.zeros(4)))))
    assert told.startswith("The model failed: ValueError: x (")


def test_a_gradient_that_cannot_be_computed() -> None:
    x = torch.zeros(2, requires_grad=True)
    y = x.exp()
    y.data.add_(1)
    z = y * 1
    z.sum().backward()
    told = str(blamed(caught(lambda: z.sum().backward())))
    assert told.startswith("The gradient of the model could not be computed: RuntimeError: Trying to backward")


def test_errors_of_others_are_nobodys() -> None:
    error = caught(lambda: json.loads("{"))
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next and error.__traceback__.tb_next.tb_next
    assert blamed(error) is None and users_frame(error) == ""
    inside = caught(lambda: load_model("zoo:nothing"))
    inside.__traceback__ = (
        inside.__traceback__ and inside.__traceback__.tb_next and inside.__traceback__.tb_next.tb_next
    )
    assert blamed(inside) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (AssertionError(), "AssertionError"),
        (ValueError("Too wide."), "ValueError: Too wide"),
        (
            RuntimeError(
                "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript: 1\n"
                "RuntimeError: shape '[4, 1]' is invalid for input of size 8\n"
            ),
            "RuntimeError: shape '[4, 1]' is invalid for input of size 8",
        ),
        (SystemExit(3), "it called sys.exit(3)"),
        (SystemExit(), "it called sys.exit()"),
    ],
)
def test_in_short(error: BaseException, told: str) -> None:
    assert in_short(error) == told


@pytest.mark.parametrize(
    ("error", "n", "advice"),
    [
        (RuntimeError("shapes"), 1, "say so: my.py:factory?size=32&channels=1."),
        (RuntimeError("shapes"), 2, "if it takes one image at a time, pass --batch 1."),
        (RuntimeError("CUDA out of memory"), 2, "Give a smaller --batch."),
        (MemoryError(), 2, "Give a smaller --batch."),
        (KeyError("x"), 2, "Put that right in the model's code."),
    ],
)
def test_the_advice_fits_the_error(error: BaseException, n: int, advice: str) -> None:
    assert str(model_error(error, (n, 3, 8, 8), "m")).endswith(advice)


def test_a_place_in_the_users_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def fail():\n\n    return 1 / 0\n")
    names: dict[str, Any] = {}
    exec(compile((tmp_path / "mine.py").read_text(), str(tmp_path / "mine.py"), "exec"), names)
    assert users_frame(caught(names["fail"])) == "mine.py:3"
