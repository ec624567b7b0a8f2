"""`assay.doctor`: what the command `assay doctor` says, for Python objects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.answers import sum_to_one
from assay.evaluation.attack_unit import check_scores
from assay.preflight.findings import Finding, Findings, Level


class Brightest(nn.Module):
    def __init__(self, probabilities: bool = False) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        logits = 20 * x.mean((2, 3))
        return logits.softmax(1) if self.probabilities else logits


def images() -> tuple[Tensor, Tensor]:
    y = torch.arange(30) % 3
    x = 0.2 + 0.1 * torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[torch.arange(30), y] += 0.3
    return x, y


def test_a_healthy_model_has_neither_errors_nor_warnings() -> None:
    found = assay.doctor(Brightest(), images())
    assert not found.errors
    assert not found.warnings
    assert "100.0 % on 30 images" in str(found)


def test_what_is_wrong_is_an_error_with_its_fix() -> None:
    found = assay.doctor(Brightest(probabilities=True), images(), images=9)
    (error,) = found.errors
    assert (error.check, error.level) == ("outputs", Level.ERROR)
    assert next(iter(found)) is error
    assert "returns probabilities" in str(found)


def test_a_notebook_shows_a_table_with_the_text_as_it_is() -> None:
    html = Findings((Finding(Level.WARNING, "labels", "a < b & c"),), None, "m on <d>")._repr_html_()
    assert "a &lt; b &amp; c" in html
    assert "m on &lt;d&gt;" in html
    assert "! warning" in html


def test_one_model_on_one_data_set() -> None:
    with pytest.raises(assay.BadInput, match="2 models or data sets were given"):
        assay.doctor([Brightest(), Brightest()], images())
    with pytest.raises(assay.BadInput, match="images is 0"):
        assay.doctor(Brightest(), images(), images=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_softmax_of_any_precision_is_known_as_probabilities(dtype: torch.dtype, classes: int) -> None:
    logits = 4 * torch.randn(2000, classes, generator=torch.Generator().manual_seed(classes))
    probabilities = logits.to(dtype).softmax(1).float()
    assert bool(sum_to_one(probabilities).all())
    with pytest.raises(assay.BadInput, match="returns probabilities"):
        check_scores(probabilities, "logits")
    with pytest.raises(assay.BadInput, match="returns percentages"):
        check_scores(100 * probabilities, "logits")


def test_rounding_to_bfloat16_moves_a_sum_by_more_than_a_thousandth() -> None:
    # which is why a threshold of a thousandth, enough for float32 and float16, would let such models pass
    logits = 4 * torch.randn(2000, 10, generator=torch.Generator().manual_seed(0))
    away = (logits.bfloat16().softmax(1).float().sum(1) - 1).abs().max()
    assert 1e-3 < float(away) <= 2**-8


def test_softmax_written_out_in_bfloat16() -> None:
    powers = (4 * torch.randn(2000, 10, generator=torch.Generator().manual_seed(0))).bfloat16().exp()
    assert bool(sum_to_one((powers / powers.sum(1, keepdim=True)).float()).all())


def test_scores_that_are_no_probabilities() -> None:
    assert not bool(sum_to_one(torch.tensor([[0.5, 0.51]])).any())
    assert not bool(sum_to_one(torch.tensor([[1.5, -0.5], [float("nan"), 1.0]])).any())
    assert not bool(sum_to_one(torch.tensor([[1.0]])).any())
