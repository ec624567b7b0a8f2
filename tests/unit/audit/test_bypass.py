"""Where the network inside a defence is found, and that a view past it answers and slopes as it must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.audit.bypass import Cut, PastDefense, cut
from tests.support.subjects import SIDE, Around, Layer, network

X = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def rounded(x: Tensor) -> Tensor:
    return (x * 8).round() / 8


def blurred(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x.detach(), 3, 1, 1)


def scaled(logits: Tensor) -> Tensor:
    return logits * 1000


class Twice(nn.Module):
    """Asks its network about the image and about a rounded one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.inner(x)
        return 0 * first.detach() + self.inner(rounded(x))


def slope(module: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(module(x).square().sum(), x)
    return grad


CASES: list[tuple[str, Any, Any, Cut]] = [
    # name, the defence around a network, what enters the network, where it is cut
    ("wrapper", lambda net: Around(net, before=rounded), rounded, Cut("inner.0", 1, True, None)),
    ("sequential", lambda net: nn.Sequential(Layer(blurred), net), blurred, Cut("1.0", 1, True, None)),
    ("filter", lambda net: Around(net, before=blurred), blurred, Cut("inner.0", 1, True, None)),
    ("scaling", lambda net: Around(net, after=scaled), None, Cut("inner.0", 1, False, "inner")),
    ("scaling as a layer", lambda net: nn.Sequential(net, Layer(scaled)), None, Cut("0.0", 1, False, "0")),
    ("both", lambda net: Around(net, before=rounded, after=scaled), rounded, Cut("inner.0", 1, True, "inner")),
    (
        "both as layers",
        lambda net: nn.Sequential(Layer(rounded), net, Layer(scaled)),
        rounded,
        Cut("1.0", 1, True, "1"),
    ),
    ("nothing", lambda net: net, None, Cut("0", 1, False, None)),
]


@pytest.mark.parametrize(("name", "make", "before", "where"), CASES, ids=[case[0] for case in CASES])
def test_the_view_has_the_values_of_the_model_and_the_gradient_of_the_network(
    name: str, make: Any, before: Any, where: Cut
) -> None:
    inner = network()
    module = make(inner).eval()
    assert cut(module, X) == where
    view = PastDefense(module, where)
    entered = X if before is None else before(X)
    with torch.no_grad():
        expected = inner(entered) if where.exit is not None else module(X)
        assert torch.equal(view(X), expected)
        assert torch.equal(view(X).argmax(1), module(X).argmax(1))
    assert torch.allclose(slope(view, X), slope(inner, entered))


def test_a_network_that_is_asked_twice_is_cut_at_its_last_call() -> None:
    inner = network()
    where = cut(Twice(inner), X)
    assert (where.entry, where.call, where.changed) == ("inner.0", 2, True)
    view = PastDefense(Twice(inner), where)
    assert torch.equal(view(X), inner(rounded(X)))
    assert torch.allclose(slope(view, X), slope(inner, rounded(X)))


def test_a_hidden_layer_of_as_many_units_is_no_exit() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 4))
    assert cut(module, X).exit is None
    assert cut(nn.Sequential(module), X).exit is None


def test_a_network_of_one_module_has_nothing_to_cut() -> None:
    module = Layer(lambda x: x.flatten(1)[:, :4])
    assert cut(module, X) == Cut(None, 0, False, None)
    view = PastDefense(module, cut(module, X))
    assert torch.equal(view(X), module(X))


def test_no_hook_stays_behind_even_when_the_forward_pass_raises() -> None:
    def refuse(x: Tensor) -> Tensor:
        raise ValueError("no")

    module = nn.Sequential(network(), Layer(refuse))
    where = Cut("0.0", 1, True, "0")
    for ask in (lambda: cut(module, X), lambda: PastDefense(module, where)(X)):
        with pytest.raises(ValueError, match="no"):
            ask()
    assert all(not one._forward_hooks and not one._forward_pre_hooks for one in module.modules())
