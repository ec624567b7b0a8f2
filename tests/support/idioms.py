"""Ways to write a network: each runs on its user's images, so it must run here and be left as it was."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

SHAPE, CLASSES = (3, 8, 8), 4
Forward = Callable[[Tensor], Tensor]
IDIOMS: dict[str, Callable[[], Any]] = {}


def idiom(make: Callable[[], Any]) -> Callable[[], Any]:
    IDIOMS[make.__name__] = make
    return make


class Net(nn.Module):
    """A convolution, and whatever `middle` makes of its [N, 8, 6, 6]; a linear layer of `width` at the end."""

    def __init__(self, middle: Callable[[nn.Module, Tensor], Tensor], width: int = 288, **parts: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        for name, part in parts.items():
            setattr(self, name, part)
        self.middle = middle
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, torch.tanh(self.conv(x))))


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, CLASSES))


class Wrapped(nn.Module):
    """A network in the attribute `net`, called through `around`."""

    def __init__(self, around: Callable[[nn.Module, Tensor], Tensor], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net or plain()
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        return self.around(self.net, x)


# ---- shapes


@idiom
def view_flatten() -> nn.Module:
    return Net(lambda m, h: h.view(len(h), -1))


@idiom
def view_of_the_image() -> nn.Module:
    return nn.Sequential(Wrapped(lambda net, x: net(x.view(len(x), -1)), nn.Linear(192, 16)), nn.Linear(16, CLASSES))


@idiom
def permute_and_view() -> nn.Module:
    return Net(lambda m, h: h.permute(1, 2, 3, 0).view(288, -1).t())


@idiom
def permute_and_reshape() -> nn.Module:
    return Net(lambda m, h: h.permute(0, 2, 3, 1).reshape(len(h), -1))


@idiom
def as_strided() -> nn.Module:
    return Net(lambda m, h: h.as_strided((len(h), 288), (288, 1)))


@idiom
def stride_arithmetic() -> nn.Module:
    return Net(lambda m, h: torch.cat([h, h * (h.stride(1) / 36)], 1).flatten(1), 576)


@idiom
def unfold() -> nn.Module:
    return Net(lambda m, h: F.unfold(h, 3, stride=3).flatten(1), 288)


@idiom
def tensor_unfold() -> nn.Module:
    return Net(lambda m, h: h.unfold(2, 3, 3).unfold(3, 3, 3).contiguous().view(len(h), -1))


@idiom
def einsum() -> nn.Module:
    return Net(lambda m, h: torch.einsum("nchw,dc->ndhw", h, m.mix).flatten(1), mix=nn.Parameter(torch.randn(8, 8)))


@idiom
def pixel_shuffle() -> nn.Module:
    return Net(lambda m, h: F.pixel_unshuffle(F.pixel_shuffle(h, 2), 3).flatten(1))


@idiom
def transposed_convolution() -> nn.Module:
    return Net(lambda m, h: m.up(h).flatten(1), 2 * 13 * 13, up=nn.ConvTranspose2d(8, 2, 3, stride=2))


@idiom
def depthwise_and_grouped() -> nn.Module:
    parts = {"depth": nn.Conv2d(8, 8, 3, padding=1, groups=8), "group": nn.Conv2d(8, 8, 3, padding=1, groups=2)}
    return Net(lambda m, h: m.group(torch.relu(m.depth(h))).view(len(h), -1), **parts)


# ---- weights


class Standardised(nn.Conv2d):
    """Weights standardised by a view."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.view(self.out_channels, -1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, flat.view(self.weight.shape), self.bias)


@idiom
def weight_standardisation() -> nn.Module:
    return nn.Sequential(Standardised(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, CLASSES))


class OwnSpectral(nn.Conv2d):
    """A power iteration in every forward, kept in a buffer."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.register_buffer("u", F.normalize(torch.randn(self.out_channels), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.view(self.out_channels, -1)
        with torch.no_grad():
            v = F.normalize(flat.t() @ self.u, dim=0)
            u = F.normalize(flat @ v, dim=0)
            if self.training:
                self.u.copy_(u)
        return F.conv2d(x, self.weight / (u @ flat @ v), self.bias)


@idiom
def own_spectral_norm() -> nn.Module:
    return nn.Sequential(OwnSpectral(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, CLASSES))


def _with_first(change: Callable[[nn.Module], object]) -> nn.Module:
    net = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net[0] = change(net[0]) or net[0]
    return net


@idiom
def weight_norm() -> nn.Module:
    return _with_first(parametrizations.weight_norm)


@idiom
def spectral_norm() -> nn.Module:
    return _with_first(parametrizations.spectral_norm)


@idiom
def orthogonal() -> nn.Module:
    return _with_first(parametrizations.orthogonal)


@idiom
def old_weight_norm() -> nn.Module:
    return _with_first(nn.utils.weight_norm)


@idiom
def old_spectral_norm() -> nn.Module:
    return _with_first(nn.utils.spectral_norm)


@idiom
def tied_weights() -> nn.Module:
    net = Net(lambda m, h: m.again(F.pad(h[:, :3], (1, 1, 1, 1))).flatten(1), again=nn.Conv2d(3, 8, 3))
    net.again.weight = net.conv.weight
    return net


@idiom
def flat_buffer() -> nn.Module:
    net = plain()
    whole = torch.cat([one.detach().reshape(-1) for one in net.parameters()])
    at = 0
    for one in net.parameters():
        one.data = whole[at : at + one.numel()].view(one.shape)
        at += one.numel()
    net.whole = whole
    return net


@idiom
def in_shared_memory() -> nn.Module:
    return plain().share_memory()


@idiom
def in_numpy_memory() -> nn.Module:
    net = plain()
    for one in net.parameters():
        one.data = torch.from_numpy(np.ascontiguousarray(one.detach().numpy().copy()))
    return net


@idiom
def channels_last_weights() -> nn.Module:
    return plain().to(memory_format=torch.channels_last)


@idiom
def transposed_weights() -> nn.Module:
    net = plain()
    net[0].weight = nn.Parameter(torch.randn(3, 8, 3, 3).transpose(0, 1) / 5)
    net[3].weight.data = torch.randn(288, CLASSES).t() / 10
    return net


@idiom
def parameter_containers() -> nn.Module:
    parts = {
        "several": nn.ParameterList([nn.Parameter(torch.randn(8, 8, 1, 1) / 3) for _ in range(2)]),
        "named": nn.ParameterDict({"bias": nn.Parameter(torch.randn(8))}),
    }

    def middle(m: Any, h: Tensor) -> Tensor:
        for one in m.several:
            h = F.conv2d(h, one, m.named["bias"])
        return h.view(len(h), -1)

    return Net(middle, **parts)


@idiom
def sparse_weights() -> nn.Module:
    net = Net(lambda m, h: torch.sparse.mm(m.sparse, h.flatten(1).t()).t(), 20)
    net.register_buffer("sparse", (torch.randn(20, 288) * (torch.rand(20, 288) > 0.7)).to_sparse())
    return net


@idiom
def requires_grad_mixed() -> nn.Module:
    net = plain()
    net[0].weight.requires_grad_(False)
    return net


@idiom
def gradients_filled() -> nn.Module:
    net = plain()
    net(torch.rand(2, *SHAPE)).sum().backward()
    return net


@idiom
def low_rank_merged_in_eval() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), LowRank(288, CLASSES))


class LowRank(nn.Linear):
    """eval() merges the update into the weight, train() takes it out again."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.down, self.up = nn.Parameter(torch.randn(2, args[0]) / 9), nn.Parameter(torch.randn(args[1], 2))
        self.merged = False

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.down.t() @ self.up.t()


# ---- buffers and attributes


@idiom
def expanded_buffers() -> nn.Module:
    net = Net(lambda m, h: (h - m.mean).flatten(1))
    net.register_buffer("mean", torch.rand(1, 8, 1, 1).expand(1, 8, 6, 6))
    return net


@idiom
def nan_in_a_buffer() -> nn.Module:
    net = Net(lambda m, h: h.flatten(1))
    net.register_buffer("unused", torch.tensor([1.0, float("nan")]))
    return net


@idiom
def plain_tensor_attributes() -> nn.Module:
    net = Net(lambda m, h: ((h - m.mean) / m.deviation[0]).flatten(1))
    net.mean, net.deviation = torch.rand(8, 1, 1), [torch.rand(8, 1, 1) + 1]
    return net


@idiom
def buffer_updated_in_forward() -> nn.Module:
    def middle(m: Any, h: Tensor) -> Tensor:
        m.seen += len(h)
        m.average.mul_(0.9).add_(0.1 * h.detach().mean())
        return h.flatten(1)

    net = Net(middle)
    net.register_buffer("seen", torch.tensor(0))
    net.register_buffer("average", torch.tensor(0.0))
    return net


@idiom
def caches_and_counters() -> nn.Module:
    def middle(m: Any, h: Tensor) -> Tensor:
        m.last, m.calls = h, m.calls + 1
        m.history.append(h.detach().mean())
        return h.flatten(1)

    return Net(middle, last=None, calls=0, history=[])


@idiom
def hooks() -> nn.Module:
    net = plain()
    net[0].register_forward_pre_hook(lambda m, args: (args[0] * 2 - 1,))
    net[1].register_forward_hook(lambda m, args, out: out * (1 + 0 * out.stride(0)))
    net[3].register_forward_hook(lambda m, args, out: out / 2)
    net[3].register_full_backward_hook(lambda m, given, taken: None)
    return net


@idiom
def hook_registered_in_forward() -> nn.Module:
    def middle(m: Any, h: Tensor) -> Tensor:
        handle = m.head.register_forward_hook(lambda *_: None)
        handle.remove()
        return h.flatten(1)

    return Net(middle)


# ---- normalisation, attention, recurrence


@idiom
def batch_norm_of_the_batch() -> nn.Module:
    # written so in many a paper's code: rows depend on their neighbours, but not on the mode
    return Net(lambda m, h: F.batch_norm(h, None, None, training=True).flatten(1))


@idiom
def batch_norm_in_mixed_modes() -> nn.Module:
    layers = (
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(288, CLASSES),
    )
    net = nn.Sequential(*layers)
    net(torch.rand(9, *SHAPE))
    net.train()
    net[1].eval()
    return net


@idiom
def attention() -> nn.Module:
    def middle(m: Any, h: Tensor) -> Tensor:
        tokens = h.flatten(2).transpose(1, 2)
        return m.attention(tokens, tokens, tokens)[0].mean(1)

    return Net(middle, 8, attention=nn.MultiheadAttention(8, 2, batch_first=True))


@idiom
def encoder_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return Net(lambda m, h: m.layer(h.flatten(2).transpose(1, 2)).mean(1), 8, layer=layer)


@idiom
def lstm() -> nn.Module:
    return Net(lambda m, h: m.lstm(h.flatten(2).transpose(1, 2))[0][:, -1], 5, lstm=nn.LSTM(8, 5, batch_first=True))


@idiom
def gru() -> nn.Module:
    return Net(lambda m, h: m.gru(h.flatten(2).permute(2, 0, 1))[1][-1], 5, gru=nn.GRU(8, 5))


@idiom
def fourier() -> nn.Module:
    return Net(lambda m, h: torch.fft.rfft2(h).abs().flatten(1), 8 * 6 * 4)


# ---- autograd


class Doubled(torch.autograd.Function):
    """Twice the input, saving it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


@idiom
def custom_function() -> nn.Module:
    return Net(lambda m, h: Doubled.apply(h).flatten(1))


@idiom
def input_written_in_place() -> nn.Module:
    return Wrapped(lambda net, x: net(x.sub_(0.4).div_(0.3)))


@idiom
def input_channel_written_in_place() -> nn.Module:
    def around(net: nn.Module, x: Tensor) -> Tensor:
        x[:, 0] = x[:, 0] * 2
        x.transpose(2, 3)[..., 0] -= 0.1
        return net(x)

    return Wrapped(around)


@idiom
def functional_call() -> nn.Module:
    return Wrapped(lambda net, x: torch.func.functional_call(net, {k: v * 2 for k, v in net.named_parameters()}, (x,)))


@idiom
def vmap() -> nn.Module:
    return Wrapped(lambda net, x: torch.vmap(lambda one: net(one[None])[0])(x))


@idiom
def checkpointing() -> nn.Module:
    from torch.utils.checkpoint import checkpoint

    return Wrapped(lambda net, x: checkpoint(net, x, use_reentrant=False))


@idiom
def gradient_inside() -> nn.Module:
    def around(net: nn.Module, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(net(at).square().sum(), at, create_graph=True)
        return net(x + 0.1 * grad)

    return Wrapped(around)


@idiom
def no_deepcopy() -> nn.Module:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("not to be copied")

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    return Alone()


# ---- programs


@idiom
def scripted() -> nn.Module:
    return _quietly(lambda: torch.jit.script(plain()))


@idiom
def traced() -> nn.Module:
    return _quietly(lambda: torch.jit.trace(plain().eval(), torch.rand(2, *SHAPE)))


@idiom
def frozen_script() -> nn.Module:
    return _quietly(lambda: torch.jit.freeze(torch.jit.script(plain().eval())))


@idiom
def script_inside() -> nn.Module:
    return _quietly(lambda: nn.Sequential(torch.jit.script(plain()[:2]), nn.Flatten(), nn.Linear(288, CLASSES)))


@idiom
def symbolic_trace() -> nn.Module:
    return torch.fx.symbolic_trace(plain())


@idiom
def exported() -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=512)
    return torch.export.export(plain().eval(), (torch.rand(3, *SHAPE),), dynamic_shapes=({0: batch},)).module()


def _quietly(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


# ---- callables


class Called:
    """Not a module, but called like one."""

    def __init__(self) -> None:
        self.net = plain().eval()

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)

    def scores(self, x: Tensor) -> Tensor:
        return self.net(x * 2)


def _scaled(net: nn.Module, x: Tensor, by: float = 1.0) -> Tensor:
    return net(x * by)


@idiom
def function() -> Forward:
    net = plain().eval()
    return lambda x: (net(x), "aside")[0]


@idiom
def closure_over_two() -> Forward:
    one, other = plain().eval(), plain().eval()
    return lambda x: one(x) + other(x.flip(-1))


@idiom
def partial() -> Forward:
    return functools.partial(_scaled, plain().eval(), by=2.0)


@idiom
def callable_object() -> Forward:
    return Called()


@idiom
def bound_method() -> Forward:
    return Called().scores


# ---- what a model is, to the last bit


def made(name: str) -> Any:
    """Return the idiom, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return IDIOMS[name]()


def networks_of(model: Any) -> list[nn.Module]:
    from assay.models.function import networks_in

    return [model] if isinstance(model, nn.Module) else networks_in(model)


Portrait = dict[str, Any]
# a user's own counters and caches may go on
GROWS = frozenset({"last", "calls", "history"})


def portrait(model: Any) -> Portrait:
    """Return everything there is to know of a model: identities, places, strides, flags and bytes."""
    drawn: Portrait = {}
    for i, net in enumerate(networks_of(model)):
        for name, module in net.named_modules():
            at = f"{i}.{name}"
            drawn[f"{at} training"] = getattr(module, "training", None)
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for key, value in vars(module).items():
                if key in GROWS:
                    continue
                drawn[f"{at}.{key}"] = _drawn(value)
                if isinstance(value, dict):
                    drawn[f"{at}.{key} keys"] = [(one, id(held)) for one, held in value.items()]
                    tensors = {one: held for one, held in value.items() if isinstance(held, Tensor)}
                    drawn |= {f"{at}.{key}.{one}": _drawn(held) for one, held in tensors.items()}
                elif isinstance(value, list):
                    drawn[f"{at}.{key} items"] = [_drawn(held) for held in value]
        drawn |= {f"{i}.{name}": _drawn(value) for name, value in (*net.named_parameters(), *net.named_buffers())}
    return drawn


def _drawn(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value if isinstance(value, (bool, int, float, str, type(None))) else id(value)
    if value.layout is not torch.strided:
        return id(value), value.requires_grad, value.coalesce().values().tolist()
    content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    grad = None if not value.is_leaf or value.grad is None else (id(value.grad), value.grad.tolist())
    place = (value.data_ptr(), value.stride(), value.storage_offset(), value.is_shared(), value.dtype, value.shape)
    # a scripted module makes a new Python object for its tensors each time
    return place, value.requires_grad, content, grad


def differences(before: Portrait, after: Portrait) -> list[str]:
    """Return the names of what is no longer what it was."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


@contextlib.contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Fail unless `model` is afterwards what it was."""
    before = portrait(model)
    yield
    changed = differences(before, portrait(model))
    assert not changed, f"no longer what they were: {changed[:6]}"
