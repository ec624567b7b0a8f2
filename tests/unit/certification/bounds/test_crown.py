"""CROWN against closed forms, dense rows against windows, and numbers of the library auto_LiRPA."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.certification.bounds import record
from assay.certification.bounds.crown import Work, bounds_over, label_rows, lowest, lowest_leads
from assay.certification.bounds.region import Region
from assay.certification.bounds.rows import Rows
from assay.core.norms import NORMS
from assay.core.threat import UNBOXED, Threat
from assay.data import load_data
from assay.models import load_model


def leads(net, x, y, threat, **options):
    """Return the lower bounds of leads `[N, K - 1]`, nominal."""
    with torch.no_grad():
        graph = record(net.eval(), x).graph(torch.float64)
        region = Region.of(threat, x, tolerant=False)
        work = Work.on(x)
        bounds = bounds_over(graph, region, work)
        least = lowest_leads(graph, region, bounds, label_rows(graph, y), work, **options)
    return least.view(len(x), -1), bounds, work


def test_one_relu_in_closed_form():
    # z = relu(a + b), over [-1, 2] of a + b: the line above is 2/3 (h + 1), the line below h (2 > 1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[1].weight.fill_(1.0)
        net[1].bias.fill_(-0.5)
        net[3].weight.copy_(torch.tensor([[0.0], [1.0]]))
        net[3].bias.copy_(torch.tensor([3.0, 0.0]))
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    # a + b - .5 lies in [.5 - 1.5, .5 + 1.5] = [-1, 2]: 3 - 2/3 (2 + 1) = 1, which is reached
    least, _, _ = leads(net, x, y, Threat(NORMS["linf"], eps=0.75, box=UNBOXED))
    assert float(least) == pytest.approx(1.0, abs=1e-9)
    # the other class leads by relu - 3: the line below gives -1 - 3
    least, _, _ = leads(net, x, torch.tensor([1]), Threat(NORMS["linf"], eps=0.75, box=UNBOXED))
    assert float(least) == pytest.approx(-4.0, abs=1e-9)
    # gradient ascent finds the slope 0, whose bound is reached
    least, _, _ = leads(net, x, torch.tensor([1]), Threat(NORMS["linf"], eps=0.75, box=UNBOXED), steps=20)
    assert float(least) == pytest.approx(-3.0, abs=1e-6)


class Residual(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, padding=2, dilation=2)
        self.short = nn.Conv2d(4, 6, 1, stride=2)
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(24, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (self.two(self.one(x).relu()) + self.short(x)).relu()
        return self.head(self.pool(x).flatten(1))


def test_windows_say_what_dense_rows_say():
    net, x = Residual().eval(), torch.rand(2, 2, 7, 7)
    with torch.no_grad():
        graph = record(net, x).graph(torch.float64)
        region, work = Region.of(Threat(NORMS["linf"], eps=0.05), x), Work()
        bounds = bounds_over(graph, region, work)
        number = next(i for i, node in enumerate(graph.nodes, 1) if type(node.operation).__name__ == "Sum")
        shape = graph.shape_of(number)
        places = torch.arange(shape[1] * shape[2])
        corner = torch.stack([places // shape[2], places % shape[2]], 1)
        image = torch.arange(len(places)) % 2
        values = torch.randn(len(places), shape[0], 1, 1, dtype=torch.float64)
        windows = Rows(values, image, corner)
        dense = windows.dense(shape)
        assert dense.corner is None
        found = [lowest(graph, region, bounds.lines, (number, rows), work) for rows in (windows, dense)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_residual_bounds_hold_and_fall_with_the_budget(norm):
    net, x = Residual(1).eval(), torch.rand(3, 2, 7, 7)
    y = net(x).argmax(1)
    last, noise = None, torch.Generator().manual_seed(0)
    for eps in (0.0, 0.02, 0.2):
        threat = Threat(NORMS[norm], eps=eps)
        least, bounds, _ = leads(net, x, y, threat)
        assert last is None or bool((least <= last + 1e-9).all())
        last = least
        z = threat.project(x.repeat(200, 1, 1, 1) + torch.randn(600, 2, 7, 7, generator=noise), x.repeat(200, 1, 1, 1))
        with torch.no_grad():
            logits = net(z).double()
        assert bool((logits <= bounds.known[-1].high.repeat(200, 1) + 1e-4).all())
        own = logits.gather(1, y.repeat(200)[:, None])
        worst = (own - logits.scatter(1, y.repeat(200)[:, None], -torch.inf).amax(1, keepdim=True)).view(200, 3).amin(0)
        assert bool((least.amin(1) <= worst + 1e-4).all())
        if eps == 0.0:
            torch.testing.assert_close(least.amin(1), worst, rtol=1e-5, atol=1e-5)


def test_ascent_never_loosens():
    net, x = Residual(2).eval(), torch.rand(2, 2, 7, 7)
    y = net(x).argmax(1)
    plain, _, work = leads(net, x, y, Threat(NORMS["linf"], eps=0.1))
    better, _, more = leads(net, x, y, Threat(NORMS["linf"], eps=0.1), steps=3)
    assert bool((better >= plain - 1e-12).all()) and bool((better > plain + 1e-6).any())
    assert bool((more.products > work.products).all())


def test_a_row_costs_the_same_in_any_company():
    net, x = Residual().eval(), torch.rand(3, 2, 7, 7)
    y = net(x).argmax(1)
    together, _, work = leads(net, x, y, Threat(NORMS["linf"], eps=0.05))
    for i in range(3):
        alone, _, own = leads(net, x[i : i + 1], y[i : i + 1], Threat(NORMS["linf"], eps=0.05))
        torch.testing.assert_close(alone[0], together[i])
        assert float(own.products) == float(work.products[i])


def test_as_the_library_auto_lirpa():
    """Its numbers stand in a file with how they were made; ours may be larger, by what intervals add."""
    kept = json.loads((Path(__file__).parent / "auto_lirpa_0_7_1.json").read_text())
    net = load_model(kept["model"]).module
    samples = load_data(kept["data"]).load(range(2))
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    for case in kept["cases"]:
        threat = Threat(NORMS[case["norm"]], eps=case["eps"], box=(0.0, 1.0) if case["box"] else UNBOXED)
        ours, theirs = leads(net, x, y, threat)[0], torch.tensor(case["leads"], dtype=torch.float64)
        assert float((theirs - ours).max()) < 1e-4
        assert float((ours - theirs).max()) < (0.1 if case["eps"] == 0.2 and case["box"] else 1e-4)
