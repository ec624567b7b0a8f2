"""Networks nobody here made, read as graphs: they answer as the module does, or are refused by the layer's name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay.certification.bounds import check_graph, interval_bounds, record
from assay.core.errors import BadInput
from assay.models import Normalized


class Written(nn.Module):
    """As people write them: functional calls, a layer used twice, in-place ReLU, parametrised weights, two branches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Sequential(nn.Dropout2d(), nn.Dropout(), nn.AlphaDropout(), nn.Identity())
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
        self.side = nn.Linear(16, 5, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        x = F.pad(2 * x - 1, (0, 2, 0, 0))
        x = self.drop(self.norm(self.first(x)))
        if x.shape[1] != 4:
            raise ValueError
        skip = x
        x = self.again(F.relu(self.again(x)))
        x += skip
        x = self.act(x)
        side = F.adaptive_avg_pool2d(self.pool(x[:, :, :, :] if False else x), (2, 2))
        wide = x.mean((2, 3)) - x.mean(dim=[-1, -2], keepdim=True).reshape(len(x), -1) / 3
        return self.head(wide) + self.side(side.view(side.size(0), -1)) + torch.flatten(self.side(side.flatten(1)), 1)


def written():
    torch.manual_seed(0)
    net = Written()
    net.norm.running_mean.normal_(0, 1)
    net.norm.running_var.uniform_(0.5, 2)
    return Normalized(net.eval(), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def test_a_network_as_people_write_them_is_read():
    net, x = written(), torch.rand(4, 3, 8, 8)
    recording = record(net, x)
    check_graph(recording, net, x)
    with torch.no_grad():
        expected = net(x)
        graph = recording.graph(torch.float64)
        torch.testing.assert_close(graph.forward(x.double()).float(), expected, rtol=1e-5, atol=1e-5)
        # a point has itself as its bounds
        low, high = interval_bounds(graph, x.double(), x.double())[-1]
    torch.testing.assert_close(low.float(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(low, high)


def test_weights_are_read_anew_and_have_gradients():
    net, x = written(), torch.rand(2, 3, 8, 8)
    recording = record(net, x)
    low, high = interval_bounds(recording.graph(), x - 0.1, x + 0.1)[-1]
    (high - low).sum().backward()
    names = [name for name, one in net.named_parameters() if one.grad is None]
    assert names == []
    with torch.no_grad():
        net.module.side.weight.zero_()
        check_graph(recording, net, x)


def test_modes_are_put_back_and_dropout_is_none_in_eval_mode():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(12, 3))
    net[2].eval()
    check_graph(record(net, torch.rand(2, 3, 2, 2)), net.eval(), torch.rand(2, 3, 2, 2))
    net.train()
    net[2].eval()
    record(net, torch.rand(2, 3, 2, 2))
    assert [one.training for one in net] == [True, True, False]


class Branches(nn.Module):
    def forward(self, x):
        x = x.flatten(1)
        return x if bool(x.sum() > 6) else -x


class Detached(nn.Module):
    def forward(self, x):
        # torch does not see that the factor depends on the image
        return x.flatten(1) * float(x.numpy().mean())


class MixedBatch(nn.Module):
    def forward(self, x):
        return x.flatten(1) - x.flatten(1).mean(0)


class Noisy(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.randn(12)


class Written2(nn.Module):
    def forward(self, x):
        # a view is written to, and the value behind it used again
        x = 1.0 * x
        x.view(len(x), -1).relu_()
        return x.flatten(1)


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.MaxPool2d(2)), nn.Flatten()), r"layer '1.0' \(MaxPool2d\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Sigmoid()), r"sigmoid .* layer '2'"),
        (nn.Sequential(nn.Flatten(), nn.ReLU6()), "hardtanh"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), "statistics from the batch"),
        (Branches(), "sum is none of its operations, in the forward of Branches"),
        (Detached(), "differ by"),
        (MixedBatch(), "axes|mixes the images"),
        (Noisy(), "random numbers"),
        (Written2(), "written to"),
    ],
)
def test_what_bounds_do_not_know_is_refused_by_name(net, named):
    x = torch.rand(2, 3, 2, 2)
    with pytest.raises(BadInput, match=named):
        check_graph(record(net.eval(), x), net.eval(), x)


def test_compiled_code_is_refused():
    with pytest.warns(FutureWarning):
        net = torch.jit.trace(nn.Flatten().eval(), torch.rand(1, 3, 2, 2))
    with pytest.raises(BadInput, match="compiled"):
        record(net, torch.rand(1, 3, 2, 2))
