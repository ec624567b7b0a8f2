"""What the doctor finds about models that answer outside of torch, or can only be asked; nothing is asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.core.oracle import Access
from assay.models import Classifier, Predictions
from assay.models.deployed import Deployed
from assay.models.remote.client import Reply
from assay.models.remote.module import Endpoint
from assay.preflight.asking import MOST_ASKED
from assay.preflight.checks import examine
from assay.preflight.findings import Finding, Findings, Level
from assay.spending import Limits
from tests.unit.preflight.test_checks import data

CLASSES = 6


def images(n: int = 30) -> torch.Tensor:
    x = 0.2 + 0.1 * torch.rand(n, CLASSES, 4, 4, generator=torch.Generator().manual_seed(0))
    for i in range(n):
        x[i, i % CLASSES] += 0.3
    return x


class Network(nn.Module):
    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.mean((2, 3)) + self.scale * (x[:, :, 0, 0] - x.mean((2, 3))) / 10


def scores(rows: Any) -> Any:
    with torch.no_grad():
        return Network()(torch.from_numpy(np.asarray(rows))).numpy()


def found(model: Classifier) -> dict[str, list[Finding]]:
    told: dict[str, list[Finding]] = {}
    for one in examined(model):
        told.setdefault(one.check, []).append(one)
    return told


def examined(model: Classifier, n: int = 30) -> Findings:
    return examine(model, data(images(n), [i % CLASSES for i in range(n)]))


def box(change: Callable[[Any], Any], before: Callable[[Any], Any] = lambda x: x, **facts: Any) -> Classifier:
    module = Predictions(lambda x: change(scores(before(x))))
    return Classifier(module, spec="box", access=Access.SCORES, mean=(0.0,), std=(1.0,), **facts)


def test_a_box_with_all_of_its_digits_is_fine() -> None:
    told = found(box(lambda s: s))
    assert {one.level for each in told.values() for one in each} == {Level.GOOD, Level.NOTE}
    assert told["digits"][0].text == "scores of all 6 classes, without visible steps"
    assert "square" in told["access"][0].text and "gives scores alone" in told["access"][0].text
    assert "gradients" not in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.round(1), "steps of 0.1 (their range is"),
        (lambda s: (s * 4).round() / 4, "steps of 0.25 (their range is"),
        (lambda s: np.where(s >= np.sort(s, 1)[:, [-2]], s, 0).astype(np.float32), "At most 2 of 6 classes"),
        (lambda s: np.where(s == s.max(1, keepdims=True), 127, -128).astype(np.float32), "the scores are saturated"),
    ],
)
def test_scores_that_hide_something_are_told(change: Callable[[Any], Any], said: str) -> None:
    told = found(box(change))["digits"]
    assert all(one.level is Level.WARNING for one in told)
    assert any(said in one.text for one in told), told


def test_rounded_log_probabilities_are_told_as_probabilities() -> None:
    def rounded(s: Any) -> Any:
        shares = np.exp(s / 5 - (s / 5).max(1, keepdims=True))
        return np.log(np.maximum((shares / shares.sum(1, keepdims=True)).round(2), 1e-30)).astype(np.float32)

    assert "steps of 0.01" in found(box(rounded, outputs="probabilities"))["digits"][0].text


def test_a_model_that_sees_bytes_is_told_and_a_grid_named() -> None:
    told = found(box(lambda s: s, lambda x: (x * 255).round() / 255))["8-bit images"]
    assert told[0].level is Level.WARNING and "--grid 255" in told[0].text
    # of rounded scores it cannot be said
    told = found(box(lambda s: s.round(1), lambda x: (x * 255).round() / 255))["8-bit images"]
    assert told[0].level is Level.NOTE


def test_probabilities_of_a_box_are_an_error_without_a_word_on_gradients() -> None:
    (told,) = found(box(lambda s: np.exp(s) / np.exp(s).sum(1, keepdims=True)))["outputs"]
    assert told.level is Level.ERROR and "--outputs probabilities" in told.text and "radient" not in told.text


def test_labels_alone_have_no_digits() -> None:
    module = Predictions(lambda x: scores(x).argmax(1), classes=CLASSES)
    told = found(Classifier(module, spec="labels", access=Access.LABELS))
    assert {"digits", "8-bit images", "twin"}.isdisjoint(told)
    assert "hop-skip-jump" in told["access"][0].text


@pytest.mark.parametrize(
    ("twin", "level", "said"),
    [
        (
            Network(),
            Level.GOOD,
            "differ by 0 of their range, and 4 of 4 images get the same class; the deployed model's slope",
        ),
        (Network(20.4), Level.NOTE, "near the deployed model and not the same"),
        (Network(-20.0), Level.WARNING, "Its gradients are those of another network"),
        (Network(60.0), Level.WARNING, "convert the file anew"),
    ],
)
def test_a_twin_is_compared_on_the_images_of_the_run(twin: nn.Module, level: Level, said: str) -> None:
    (told,) = found(Classifier(Deployed(scores, twin.eval()), spec="file"))["twin"]
    assert told.level is level and said in told.text


class Client:
    """An endpoint's client that counts."""

    identity, host, loopback, random = "stub", "stub", True, False

    def __init__(self, noise: float = 0.0) -> None:
        self.rows, self.noise, self.limits = 0, noise, Limits(queries=1000)

    def ask(self, rows: Any) -> Reply:
        self.rows += len(rows)
        return Reply((scores(rows) + self.noise * self.rows).astype(np.float32))

    def content(self, row: Any) -> bytes:
        return bytes(np.ascontiguousarray(row).tobytes())


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_an_endpoint_is_asked_few_rows_anew_and_says_what_it_takes(noise: float) -> None:
    client = Client(noise)
    model = Classifier(Endpoint(client), spec="endpoint", access=Access.SCORES, identity="stub")
    told: dict[str, Finding] = {one.check: one for one in reversed(examined(model, 200).findings)}
    assert 0 < client.rows <= MOST_ASKED
    assert "1,000 queries for each of 100 images take" in told["latency"].text
    # its answers are kept: only asked anew does it show that they differ
    assert told["eval mode"].level is (Level.WARNING if noise else Level.GOOD)
    assert "on 16 images" in told["clean accuracy"].text
