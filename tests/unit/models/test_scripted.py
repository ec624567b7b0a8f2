"""The digest of a TorchScript module names its program and its numbers, not how often something was compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models import load_model

X = torch.zeros(2, 3, 4, 4)


class Scaled(nn.Module):
    """A number that only the program's attributes hold."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * self.factor


def quietly(make: Callable[[], Any]) -> str:
    with warnings.catch_warnings(action="ignore"):  # torch calls TorchScript old
        return load_model(make()).digest


def network(first: int, second: int) -> nn.Module:
    torch.manual_seed(0)
    parts = nn.AvgPool2d(2, first), nn.AvgPool2d(2, second), nn.Flatten(), nn.LazyLinear(3)
    made = nn.Sequential(*parts).eval()
    made(X)
    return made


MAKES: list[Callable[[], Any]] = [
    lambda: torch.jit.script(network(1, 2)),
    lambda: torch.jit.trace(network(1, 2), X),
    lambda: torch.jit.freeze(torch.jit.script(network(1, 2))),
    lambda: torch.jit.script(Scaled(2.0)),
]


@pytest.mark.parametrize("make", MAKES, ids=["scripted", "traced", "frozen", "attribute"])
def test_the_same_again_is_the_same(make: Callable[[], Any]) -> None:
    assert len({quietly(make) for _ in range(3)}) == 1


def test_another_program_or_number_is_another() -> None:
    others = [
        lambda: torch.jit.script(network(1, 2)),
        lambda: torch.jit.script(network(2, 1)),
        lambda: torch.jit.script(Scaled(2.0)),
        lambda: torch.jit.script(Scaled(3.0)),
        lambda: torch.jit.freeze(torch.jit.script(network(1, 2))),
    ]
    assert len({quietly(make) for make in others}) == len(others)


def test_a_reset_is_told_its_own_module_whatever_stands_around_it() -> None:
    told = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.Softmax(1))
    model = load_model(net, outputs="probabilities", mean=(0.5,), std=(0.5,), reset=told.append)
    model.oracle().answers(X)
    assert told and all(one is net for one in told)


def test_an_exported_program_can_be_loaded_by_name(tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(0)\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()\n"
        "    return torch.export.export(made, (torch.zeros(2, 3, 4, 4),)).module()\n"
    )
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    got = load_model(f"{tmp_path}/own.py:net").oracle().answers(X)
    torch.testing.assert_close(got, made(X).detach())
    with pytest.raises(BadInput, match="has no 'nets'"):
        load_model(f"{tmp_path}/own.py:nets")
