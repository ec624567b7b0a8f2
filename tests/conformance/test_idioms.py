"""Every way to write a network gives its own logits and gradients, and the network is afterwards what it was."""

from __future__ import annotations

import contextlib
import copy
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access
from assay.models import load_model
from tests.support.idioms import CLASSES, IDIOMS, SHAPE, made, networks_of, untouched

N = 6
X = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.96 + 0.02
Y = torch.arange(N) % CLASSES
EPS = 0.01
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:.*CSR:UserWarning")


def asked(model: Any) -> Any:
    """Return a copy in eval mode, or the idiom made once more where it cannot be copied."""
    try:
        twin = copy.deepcopy(model)
    except Exception:
        return None
    for net in networks_of(twin):
        if all(getattr(one, "training", False) is False for one in net.modules()):
            continue
        net.eval()
    return twin


def twin_of(name: str, model: Any) -> Any:
    twin = asked(model)
    if twin is None or not isinstance(model, nn.Module):
        twin = made(name)
        for net in networks_of(twin):
            if any(one.training for one in net.modules()):
                net.eval()
    return twin


def gradient(twin: Any, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(twin(x.clone()), y, reduction="sum"), x)
    return grad


def by_hand(twin: Any, y: Tensor, steps: int, step: float) -> Tensor:
    x = X.clone()
    for _ in range(steps):
        x = (x + step * gradient(twin, x, y).sign()).clamp(X - EPS, X + EPS).clamp(0, 1)
    return x


@pytest.mark.parametrize("name", list(IDIOMS))
def test_logits_and_gradients_are_those_of_plain_torch(name: str) -> None:
    model = made(name)
    twin = twin_of(name, model)
    with torch.no_grad():
        logits = twin(X.clone())
    with untouched(model):
        classifier = load_model(model)
        oracle = classifier.oracle()
        with classifier.held():
            answers = oracle.answers(X)
            seen = oracle.look(X, Untargeted(Y), cross_entropy, Access.GRADIENT, Draws(torch.arange(N)))
    torch.testing.assert_close(answers, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.logits, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.grad, gradient(twin, X, Y), rtol=1e-3, atol=1e-5)
    assert seen.cost.forwards.tolist() == [1] * N


@pytest.mark.parametrize("name", list(IDIOMS))
def test_attacks_are_those_of_plain_torch(name: str) -> None:
    model = made(name)
    twin = twin_of(name, model)
    with torch.no_grad():
        y = twin(X.clone()).argmax(1)
    one_step, two_steps = by_hand(twin, y, 1, EPS), by_hand(twin, y, 2, EPS / 2)
    with untouched(model):
        fgsm = assay.attack(assay.FGSM(), model, X, y, assay.Linf(EPS))
        pgd = assay.attack(
            assay.PGD(steps=2, step_size=0.5, random_start=False), model, X, y, assay.Linf(EPS), keep="last"
        )
        curve = assay.sweep(assay.FGSM(), model, X, y, threats=[assay.Linf(EPS / 2), assay.Linf(EPS)])
    # the sign of a gradient that is zero up to rounding is free
    assert float((fgsm.x_adv - one_step).abs().gt(1e-6).double().mean()) < 0.01
    assert float((curve[1].x_adv - one_step).abs().gt(1e-6).double().mean()) < 0.01
    assert float((pgd.x_adv - two_steps).abs().gt(1e-6).double().mean()) < 0.01
    for result, x in ((fgsm, one_step), (pgd, two_steps)):
        with torch.no_grad():
            logits = twin(x.clone())
        torch.testing.assert_close(result.logits, logits, rtol=1e-2, atol=1e-3)
        top = logits.topk(2).values
        clear = (top[:, 0] - top[:, 1]) > 1e-3
        assert torch.equal(result.success[clear], (logits.argmax(1) != y)[clear])


# the heavier commands, on one idiom of each kind
KINDS = (
    "view_flatten",
    "weight_standardisation",
    "old_spectral_norm",
    "tied_weights",
    "flat_buffer",
    "in_shared_memory",
    "transposed_weights",
    "low_rank_merged_in_eval",
    "buffer_updated_in_forward",
    "caches_and_counters",
    "hooks",
    "batch_norm_in_mixed_modes",
    "frozen_script",
    "closure_over_two",
)


@pytest.mark.parametrize(
    "name", [one if i % 4 == 0 else pytest.param(one, marks=pytest.mark.slow) for i, one in enumerate(KINDS)]
)
def test_an_evaluation_and_its_audit_leave_the_model_as_it_was(name: str, tmp_path: Path) -> None:
    model = made(name)
    with torch.no_grad():
        y = twin_of(name, model)(X.clone()).argmax(1)
    with untouched(model):
        run = assay.evaluate(
            model,
            (X, y),
            attacks=["fgsm", "pgd"],
            threat=assay.Linf(EPS),
            out=tmp_path / "run",
            audit="off",
            doctor=False,
        )
        assert {one.clean_accuracy for one in run.results()} == {1.0}
        (verdict,) = run.audit("quick")
        assert verdict.verdict in ("trusted", "suspect", "refuted", "not audited")


class Stops(nn.Module):
    """Raises at the call of a given number, after it has begun to write."""

    def __init__(self, net: Any, error: BaseException, calls: int) -> None:
        super().__init__()
        self.net, self.error, self.left = net, error, types.SimpleNamespace(calls=calls)

    def forward(self, x: Tensor) -> Tensor:
        self.left.calls -= 1
        logits = self.net(x)
        if self.left.calls < 0:
            raise self.error
        return logits


@pytest.mark.parametrize(
    "name", [one if i % 2 == 0 else pytest.param(one, marks=pytest.mark.slow) for i, one in enumerate(KINDS)]
)
@pytest.mark.parametrize("calls", [0, 2, *(pytest.param(calls, marks=pytest.mark.slow) for calls in (1, 4))])
@pytest.mark.parametrize("error", [ValueError("in the middle"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_model_that_raises_is_left_as_it_was(name: str, calls: int, error: BaseException) -> None:
    model = made(name)
    # made first: what is compared must not depend on the wrapper's own count
    stops = Stops(model, error, calls) if isinstance(model, nn.Module) else None
    if stops is None:
        pytest.skip("a callable holds its networks itself")
    stops.training = getattr(model, "training", False)
    with untouched(model), contextlib.suppress(ValueError, KeyboardInterrupt):
        assay.attack(assay.PGD(steps=9), stops, X, Y, assay.Linf(EPS))
        raise AssertionError("it ended")
    assert stops.left.calls < 0
