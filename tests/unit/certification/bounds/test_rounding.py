"""The rounding of float32, bounded: over orders of summation, batches, and networks made to round badly."""

import pytest
import torch
from torch import nn

from assay.certification.bounds import interval_bounds, record
from assay.certification.bounds.rounding import UNITS, refuse_short_products, rounding_errors
from assay.core.errors import BadInput

FLOAT32 = UNITS[torch.float32]


def errors_of(net, low, high, image=0.0):
    graph = record(net, low).graph(torch.float64)
    known = interval_bounds(graph, low.double(), high.double())
    return rounding_errors(graph, known, FLOAT32, image)[-1]


def badly_rounding(seed):
    # weights of many sizes that nearly cancel
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3))
    with torch.no_grad():
        for one in (net[1], net[3]):
            one.weight.mul_(10 ** torch.linspace(-3, 3, one.weight.shape[1]))
            one.weight[:, 1::2] = -one.weight[:, ::2] * (1 + 1e-6)
    return net


@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_summation_rounds_by_more(seed):
    net, x = badly_rounding(seed), torch.rand(4, 1, 6, 10)
    with torch.no_grad():
        bound = errors_of(net, x, x)
        exact = net.double()(x.double())
        net.float()
        found = torch.zeros_like(bound)
        for draw in range(20):
            order, hidden = torch.randperm(60), torch.randperm(40)
            inside = torch.relu(x.flatten(1)[:, order] @ net[1].weight[:, order].T + net[1].bias)
            # one by one, as no library would
            out = net[3].bias.expand(len(x), -1)
            for i in hidden if draw % 2 else hidden.flip(0).sort().values:
                out = out + inside[:, i, None] * net[3].weight[:, i]
            found = torch.maximum(found, (out.double() - exact).abs())
        for rows in (1, 4):
            found[:rows] = torch.maximum(found[:rows], (net(x[:rows]).double() - exact[:rows]).abs())
    assert bool((found <= bound).all())
    # it is a bound of something: rounding that an infinite one would cover too
    assert float(found.max()) > 1e-4 * float(bound.max())


def test_a_right_proof_in_real_numbers_says_nothing_of_float32():
    # in float32 the half is lost where the large terms come first: the second class leads
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[2.0**24, 0.5, -(2.0**24)], [0.0, 0.25, 0.0]]))
        net[1].bias.zero_()
    x = torch.ones(1, 1, 1, 3)
    large, half, negative = net[1].weight[0].detach()
    assert float((large + half) + negative) == 0.0
    with torch.no_grad():
        lead = float(net.double()(x.double())[0].diff()) * -1
        error = errors_of(net.float(), x, x)
    assert lead == pytest.approx(0.25)
    assert float(error.sum()) > lead


def test_a_relu_that_is_off_in_any_arithmetic_rounds_nothing():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[1].weight.fill_(1.0)
        net[1].bias.fill_(-100.0)
        assert float(errors_of(net, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).max()) < 1e-30
        net[1].bias.fill_(100.0)
        assert float(errors_of(net, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).max()) > 1e-6


def test_double_images_are_rounded_before():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    x = torch.rand(1, 1, 2, 2)
    with torch.no_grad():
        assert bool((errors_of(net, x, x, image=FLOAT32) > errors_of(net, x, x)).all())


def test_shorter_products_are_refused():
    refuse_short_products(torch.device("cpu"))
    with pytest.raises(BadInput, match=r"tf32.*fp32_precision = 'ieee'"):
        refuse_short_products(torch.device("cuda"))
    with torch.autocast("cpu"), pytest.raises(BadInput, match="autocast"):
        refuse_short_products(torch.device("cpu"))


def test_batch_norm_rounds_what_its_shift_is_made_of():
    # b - mean * scale is 0, and float32 rounds both parts
    net = nn.Sequential(nn.BatchNorm2d(1, eps=0.0), nn.Flatten()).eval()
    with torch.no_grad():
        net[0].running_mean.fill_(1e4)
        net[0].bias.fill_(1e4)
        x = torch.rand(1, 1, 1, 2)
        assert float(errors_of(net, x, x).min()) > 1e4 * FLOAT32
