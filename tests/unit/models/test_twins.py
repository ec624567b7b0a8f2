"""Gradients of a twin for the answers of a deployed model: whose is which, what it costs, and which twins are none."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import assay
from assay.core.errors import BadInput
from assay.core.oracle import Access, LookPasses
from assay.models.classifier import Classifier
from assay.models.deployed import Deployed, step_of
from assay.models.load import SCHEMES, Scheme
from assay.models.normalized import Thresholded
from assay.models.spec import Request, taken_apart
from assay.models.twins import guided

SHAPE = (1, 2, 2)


def float_net(classes: int = 3, side: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes)).eval()


def rounded(net: nn.Module) -> Any:
    # the float network's answers in steps of a quarter: no gradient of its own
    def answer(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            return np.round(net(torch.from_numpy(rows)).numpy() * 4) / 4

    return answer


def deployed(**facts: Any) -> Classifier:
    given = {"spec": "file", "input_shape": SHAPE, "access": Access.SCORES, "identity": "bytes", **facts}
    return Classifier(Deployed(rounded(float_net())), **given)


def twin(net: nn.Module | None = None, **facts: Any) -> Classifier:
    loaded = assay.load_model(net or float_net())
    return dataclasses.replace(loaded, **{"spec": "twin", "input_shape": SHAPE, **facts})


def test_answers_are_the_files_and_gradients_the_twins() -> None:
    net = float_net()
    both = guided(deployed(), twin(net))
    x = torch.rand(5, *SHAPE).requires_grad_()
    answers = both.module(x)
    np.testing.assert_array_equal(answers.detach().numpy(), rounded(net)(x.detach().numpy()))
    (gradient,) = torch.autograd.grad(answers[:, 1].sum(), x)
    (known,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    torch.testing.assert_close(gradient, known)
    assert (both.access, both.passes) == (Access.GRADIENT, LookPasses(climbing=2))
    assert "gradients are those of twin" in both.notes[-1]


class Coarse:
    """Probabilities in steps of a quarter, as logarithms; all that is rounded to 0 is an eighth."""

    floor, step = math.log(1 / 8), 1 / 4

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            p = self.net(torch.from_numpy(rows)).softmax(1)
        return ((p * 4).round() / 4).clamp_min(1 / 8).log().numpy()


def test_what_a_file_rounds_to_nothing_is_told_apart_by_the_twin_alone_where_a_gradient_is_asked_for() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6)).eval()
    with torch.no_grad():
        net[1].weight.mul_(4)
    answer = Coarse(net)
    both = guided(
        Classifier(Deployed(answer), "file", input_shape=SHAPE, access=Access.SCORES, identity="b"), twin(net)
    )
    x = torch.rand(40, *SHAPE)
    plain = both.module(x)
    np.testing.assert_array_equal(plain.numpy(), answer(x.numpy()))
    climbed = both.module(x.clone().requires_grad_()).detach()
    at = plain <= answer.floor + 1e-4
    assert bool(at.any()) and torch.equal(climbed[~at], plain[~at])
    whole = at.all(1, keepdim=True)
    torch.testing.assert_close(
        climbed, torch.where(at & ~whole, net(x).log_softmax(1).clamp_max(answer.floor), plain).detach()
    )
    # a file's answer is its own in any look
    assert torch.equal(climbed.argmax(1), plain.argmax(1))
    assert step_of(both) == 1 / 4


def test_a_look_with_a_gradient_costs_two_forwards() -> None:
    x = torch.rand(3, *SHAPE)
    y = rounded(float_net())(x.numpy()).argmax(1)
    found = assay.attack(assay.PGD(steps=3), guided(deployed(), twin()), x, torch.from_numpy(y), assay.Linf(1e-6))
    # four looks, of which the last asks for no gradient
    assert found.forwards.tolist() == [7, 7, 7]
    assert found.backwards.tolist() == [3, 3, 3]


def test_the_digest_names_both() -> None:
    from assay.models.classifier import digest_of

    other = float_net()
    with torch.no_grad():
        other[1].bias += 1
    digests = [digest_of(guided(deployed(), twin(net))) for net in (float_net(), float_net(), other)]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] != digest_of(guided(deployed(identity="other bytes"), twin()))


def test_a_threshold_stays_around_both() -> None:
    one = float_net(classes=1)
    file = Classifier(
        Thresholded(Deployed(rounded(one)), 0.25), "file", input_shape=SHAPE, access=Access.SCORES, identity="bytes"
    )
    both = guided(file, twin(one))
    x = torch.rand(4, *SHAPE)
    np.testing.assert_array_equal(both.module(x).numpy(), rounded(one)(x.numpy()) - 0.25)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"access": Access.SCORES}, "gives scores and no gradients"),
        ({"rejects": True}, "stands behind defences"),
        ({"random": True}, "keeps a state or draws random numbers"),
        ({"reset": lambda _: None}, "keeps a state or draws random numbers"),
        ({"passes": LookPasses(2)}, "asks its network more than once"),
        ({"input_shape": (3, 2, 2)}, r"takes images \[1, 2, 2\].* takes \[3, 2, 2\]"),
    ],
)
def test_twins_that_are_no_plain_network_of_these_images_are_refused(facts: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        guided(deployed(), twin(**facts))


def test_other_classes_are_refused_before_anything_runs() -> None:
    with pytest.raises(BadInput, match="file gives 3 scores per image and its twin twin gives 4"):
        guided(deployed(), twin(float_net(classes=4)))
    with pytest.raises(BadInput, match="twin could not be asked about an image"):
        guided(deployed(), twin(float_net(side=3)))


def test_an_endpoint_is_not_asked() -> None:
    def never(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise AssertionError("its answers are counted")

    file = Classifier(Deployed(never), "v2:x", input_shape=SHAPE, access=Access.SCORES, identity="address")
    guided(file, twin(), ask=False)


def test_a_model_with_gradients_of_its_own_takes_no_twin() -> None:
    with pytest.raises(BadInput, match="has gradients of its own and takes no twin"):
        guided(twin(), twin())


def fake(request: Request) -> Classifier:
    return deployed(spec=request.spec)


@pytest.fixture
def scheme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setitem(SCHEMES, "fake", Scheme(fake, "fake:FILE", settings=frozenset({"twin"})))
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def factory():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))\n"
    )
    return f"{tmp_path / 'net.py'}:factory"


def test_a_twin_is_named_in_the_spec_or_given_by_name(scheme: str) -> None:
    quoted = f"{scheme}%3Fsize=2%26channels=1"
    named = assay.load_model(f"fake:it?twin={quoted}")
    given = assay.load_model("fake:it", twin=f"{scheme}?size=2&channels=1")
    assert named.access is given.access is Access.GRADIENT
    assert named.digest == given.digest
    # what another process rebuilds the model from
    assert given.spec == named.spec == f"fake:it?twin={quoted}"
    assert taken_apart(given.spec, {}, frozenset(), frozenset({"twin"}))[2] == {"twin": f"{scheme}?size=2&channels=1"}


def test_a_twin_whose_options_are_not_quoted_is_answered_with_how(scheme: str) -> None:
    with pytest.raises(BadInput, match="expected %3F for its") as told:
        assay.load_model(f"fake:it?twin={scheme}?size=2&channels=1")
    assert str(told.value).endswith(f"fake:it?twin={scheme}%3Fsize=2%26channels=1")
