from __future__ import annotations

import torch
from torch import nn

from assay.core.draws import Draws
from assay.training.losses import CrossEntropy

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
DRAWS = Draws(torch.arange(2))


def test_it_is_the_negative_log_likelihood_of_each_sample() -> None:
    loss = CrossEntropy()(nn.Identity(), LOGITS, torch.tensor([0, 2]), DRAWS)
    expected = -LOGITS.softmax(1).log()[torch.arange(2), torch.tensor([0, 2])]
    torch.testing.assert_close(loss, expected)


def test_the_temperature_divides_the_logits() -> None:
    loss = CrossEntropy(100.0)(nn.Identity(), LOGITS, torch.tensor([0, 2]), DRAWS)
    torch.testing.assert_close(loss, CrossEntropy()(nn.Identity(), LOGITS / 100, torch.tensor([0, 2]), DRAWS))


def test_soft_labels() -> None:
    soft = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    loss = CrossEntropy()(nn.Identity(), LOGITS, soft, DRAWS)
    torch.testing.assert_close(loss, -(soft * LOGITS.log_softmax(1)).sum(1))


def test_its_name_says_its_parameters() -> None:
    assert repr(CrossEntropy(20.0)) == "CrossEntropy(temperature=20.0)"
