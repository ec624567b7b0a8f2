"""Precisions, devices and states: what a model computes in, where, and whether it begins anew with every pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import AssayError, BadInput, ModelError
from assay.models import Normalized, load_model

SHAPE = (3, 6, 6)
X = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(5))
EPS = assay.Linf(0.05)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 4)).eval()


with torch.no_grad():
    Y = network()(X).argmax(1)


# ---- precision


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_model_of_another_precision_runs_and_its_records_say_so(
    dtype: torch.dtype, normalised: bool, tmp_path
) -> None:
    net: nn.Module = network().to(dtype)
    if normalised:
        net = Normalized(net, (0.1, 0.2, 0.3), (0.9, 0.8, 0.7)).eval()
    with torch.no_grad():
        own = net(X.to(dtype))
    y = own.argmax(1)
    attacked = assay.attack(assay.FGSM(), net, X, y, EPS)
    assert attacked.x_adv.dtype is torch.float32
    with torch.no_grad():
        again = net(attacked.x_adv.to(dtype))
    torch.testing.assert_close(attacked.logits.to(dtype), again, rtol=0.02, atol=0.02)
    assert all(one.dtype is dtype for one in net.parameters())
    run = assay.evaluate(
        net, (X, y), attacks=["fgsm", "pgd"], threat=EPS, out=tmp_path / "run", audit="off", doctor=False
    )
    forms = set(run.records().column("form").to_pylist())
    assert {form.partition(",")[0] for form in forms} == {str(dtype).removeprefix("torch.")}
    assert run.results()[0].clean_accuracy == 1.0


def test_images_in_double_precision_into_a_float32_model() -> None:
    one, other = (assay.attack(assay.FGSM(), network(), x, Y, EPS) for x in (X.double(), X))
    torch.testing.assert_close(one.x_adv.float(), other.x_adv)


class Answers(nn.Module):
    """Logits in a precision of their own."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = network(), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_answers_of_another_precision(dtype: torch.dtype, tmp_path) -> None:
    net = Answers(dtype)
    run = assay.evaluate(net, (X, Y), attacks=["fgsm"], threat=EPS, out=tmp_path / "run", audit="off", doctor=False)
    plain = assay.evaluate(
        network(), (X, Y), attacks=["fgsm"], threat=EPS, out=tmp_path / "plain", audit="off", doctor=False
    )
    assert run.results()[0].robust_accuracy == plain.results()[0].robust_accuracy


@pytest.mark.filterwarnings("ignore")  # torch announces that its int8 layers will go
def test_int8_layers() -> None:
    net = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})
    y = net(X).argmax(1)
    attacked = assay.attack(assay.UniformNoise(), net, X, y, EPS)
    torch.testing.assert_close(attacked.logits, net(attacked.x_adv))


# ---- devices


def test_the_own_device_changes_nothing() -> None:
    net = network()
    before = [one.data_ptr() for one in net.parameters()]
    model = load_model(net, device="cpu")
    assert model.runs_on is None
    assert model.module is net
    assert [one.data_ptr() for one in net.parameters()] == before


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "cpu:x"])
def test_a_device_that_cannot_be_used_is_refused(device: str) -> None:
    with pytest.raises(BadInput, match="device"):
        load_model(network(), device=device)
    with pytest.raises(BadInput, match="device"):
        assay.evaluate(network(), (X, Y), attacks=["fgsm"], threat=EPS, device=device, audit="off", doctor=False)


def half_meta() -> nn.Module:
    net = network()
    net[3] = nn.Linear(96, 4, device="meta")
    return net


def meta_buffer() -> nn.Module:
    net = network()
    net.register_buffer("scale", torch.empty(3, device="meta"))
    return net


@pytest.mark.parametrize("make", [lambda: network().to("meta"), half_meta, meta_buffer])
def test_weights_on_the_meta_device_were_never_loaded(make) -> None:
    with pytest.raises(BadInput, match=r"meta device.*never loaded"):
        assay.attack(assay.FGSM(), make(), X, Y, EPS)


# ---- states


class Spiking(nn.Module):
    """A membrane that leaks, kept in one of several places."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.net, self.place = network()[:3], place
        self.head = network()[3]
        if place == "buffer":
            self.register_buffer("potential", torch.zeros(1, 96))
        self.reset()

    def reset(self) -> None:
        zero = torch.zeros(1, 96)
        if self.place == "list":
            self.trace = [zero]
        elif self.place == "dictionary":
            self.memories = {"v": 0.0}
        elif self.place == "buffer":
            self.potential = zero
        else:
            self.v = zero

    def forward(self, x: Tensor) -> Tensor:
        if self.place == "list":
            self.trace.append(0.5 * self.trace[-1].mean(0, keepdim=True) + self.net(x))
            return self.head(self.trace[-1])
        if self.place == "dictionary":
            before = torch.as_tensor(self.memories["v"]).mean()
            self.memories["v"] = 0.5 * before + self.net(x)
            return self.head(self.memories["v"])
        if self.place == "buffer":
            self.potential = 0.5 * self.potential.mean(0, keepdim=True) + self.net(x)
            return self.head(self.potential)
        self.v = 0.5 * self.v.mean(0, keepdim=True) + self.net(x)
        return self.head(self.v)


PLACES = ("attribute", "buffer", "list", "dictionary")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("inside", [False, True])
def test_a_state_between_calls_is_refused(place: str, inside: bool) -> None:
    net = nn.Sequential(Spiking(place)) if inside else Spiking(place)
    with pytest.raises(ModelError, match=r"keeps a state between calls.*reset="):
        assay.attack(assay.FGSM(), net.eval(), X, Y, EPS)


@pytest.mark.parametrize("place", PLACES)
def test_with_reset_a_state_begins_anew_with_every_pass(place: str) -> None:
    model = load_model(Spiking(place).eval(), reset=lambda module: module.reset())
    # a potential that begins at zero is the network itself
    one, other = (assay.attack(assay.PGD(steps=3), net, X, Y, EPS) for net in (model, network()))
    torch.testing.assert_close(one.x_adv, other.x_adv)
    torch.testing.assert_close(one.logits, other.logits)


class Adapting(nn.Module):
    """Changes its own weights in its forward, in one of four ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.net, self.way = network(), way
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "in place":
            with torch.no_grad():
                self.net[3].weight.mul_(0.9)
        elif self.way == "data":
            self.net[3].bias.data = self.net[3].bias.data + 0.1
        else:
            with torch.enable_grad():
                p = self.net(x.detach()).softmax(1)
                self.optimiser.zero_grad()
                (-(p * p.log()).sum()).backward()
                self.optimiser.step()
        return self.net(x)


@pytest.mark.parametrize("way", ["in place", "data", "entropy"])
def test_weights_that_the_forward_changes_are_refused_and_put_back(way: str) -> None:
    net = Adapting(way).eval()
    before = [one.detach().clone() for one in net.parameters()]
    with pytest.raises(ModelError, match="own weights"):
        assay.attack(assay.FGSM(), net, X, Y, EPS)
    for one, was in zip(net.parameters(), before, strict=True):
        assert torch.equal(one, was)
        assert one.requires_grad


def test_caches_that_change_no_answer_are_no_states_and_counters_go_on() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls, self.last = network(), 0, None
            self.register_buffer("seen", torch.tensor(0))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x
            self.seen += len(x)
            return self.net(x)

    net = Caching().eval()
    attacked = assay.attack(assay.FGSM(), net, X, Y, EPS)
    torch.testing.assert_close(attacked.x_adv, assay.attack(assay.FGSM(), network(), X, Y, EPS).x_adv)
    assert net.calls >= 2
    assert net.last is None
    assert int(net.seen) == 0


def test_a_model_that_fails_says_how() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no such layer")

    with pytest.raises((AssayError, RuntimeError), match="no such layer"):
        assay.attack(assay.FGSM(), Fails(), X, Y, EPS)
