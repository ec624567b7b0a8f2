"""The oracle: right gradients, right counts, models that misbehave, and a model left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.baselines import UniformNoise
from assay.attacks.gradient import FGSM, PGD
from assay.core.draws import Draws
from assay.core.errors import ModelError
from assay.core.goal import OutOfTop, Targeted, Untargeted, scored
from assay.core.objective import cross_entropy, differences, margin
from assay.core.oracle import (
    Access,
    Observation,
    TorchOracle,
    checked_logits,
    frozen,
    input_gradient,
    micro_batch,
    out_of_memory,
)
from assay.core.problem import Problem
from assay.core.search import Keeps, search
from assay.core.threat import Linf

N = 7
X = torch.rand(N, 2, 3, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 5
GOAL = Untargeted(Y)
DRAWS = Draws(torch.arange(N))


class Net(nn.Module):
    """A network with everything that has a mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Plain(nn.Module):
    """Whatever function of the image one gives it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def look(
    model: nn.Module, access: Access = Access.GRADIENT, objective=cross_entropy, batch: int | None = None
) -> Observation:
    return TorchOracle(model, batch).look(X, GOAL, objective, access, DRAWS)


def attack(model: nn.Module, method=None, keeps: Keeps | None = None, eps: float = 0.2):
    return search(method or FGSM(), Problem(TorchOracle(model), X, GOAL, Linf(eps)), DRAWS, keeps=keeps)


WEIGHT = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))


def linear(x: Tensor) -> Tensor:
    return (x - 0.5).flatten(1) @ WEIGHT


# ---- what a look says


@pytest.mark.parametrize("objective", [cross_entropy, margin])
def test_the_gradient_is_each_sample_s_own(objective) -> None:
    net = Net().eval()
    seen = look(net, objective=objective)
    for i in range(N):
        x = X[i : i + 1].clone().requires_grad_()
        (grad,) = torch.autograd.grad(objective(net(x), Untargeted(Y[i : i + 1])).sum(), x)
        assert torch.allclose(seen.grad[i], grad[0], atol=1e-5)
        assert torch.allclose(seen.logits[i], net(x)[0], atol=1e-5)
    assert torch.equal(seen.gap, GOAL.gap(seen.logits))
    assert torch.equal(seen.reached, GOAL.reached(seen.logits))
    assert torch.allclose(seen.loss, objective(seen.logits, GOAL), atol=1e-5)
    assert not any(part.requires_grad for part in seen[:5])


def test_a_vector_objective_gives_the_jacobian() -> None:
    net = Net().eval()
    seen = look(net, objective=differences(3))
    assert seen.loss.shape == (N, 3)
    assert seen.grad.shape == (N, 3, *X.shape[1:])
    assert seen.cost.backwards.tolist() == [3] * N
    jacobian = torch.autograd.functional.jacobian(lambda x: differences(3)(net(x[None]), Untargeted(Y[:1]))[0], X[0])
    assert torch.allclose(seen.grad[0], jacobian, atol=1e-5)


@pytest.mark.parametrize("access", list(Access))
def test_costs_and_what_is_withheld(access: Access) -> None:
    seen = look(Net().eval(), access)
    wants = access is Access.GRADIENT
    assert (seen.grad is not None) == wants
    assert seen.cost.forwards.tolist() == [1] * N
    assert seen.cost.backwards.tolist() == [int(wants)] * N


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 8, None])
def test_the_micro_batch_changes_nothing(batch: int | None) -> None:
    whole, parts = look(Net().eval()), look(Net().eval(), batch=batch)
    for one, other in zip((*whole[:5], *whole.cost), (*parts[:5], *parts.cost), strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-5)


def test_micro_batches_fit_the_image() -> None:
    assert micro_batch(torch.empty(1, 1, 28, 28)) >= 32
    assert 1 <= micro_batch(torch.empty(1, 3, 224, 224)) <= 64
    assert micro_batch(torch.empty(1, 3, 4000, 4000)) == 1


def test_a_gradient_works_inside_no_grad() -> None:
    with torch.no_grad():
        assert bool(look(Net().eval()).grad.any())
        assert float(attack(Plain(linear)).size.min()) == pytest.approx(0.2)


# ---- models that are no classifiers


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: (linear(x), x), "returned a tuple, expected one tensor of logits"),
        (lambda x: [linear(x)], "returned a list"),
        (lambda x: {"logits": linear(x)}, "returned a dict"),
        (lambda x: None, "returned a NoneType"),
        (lambda x: 3.0, "returned a float"),
        (lambda x: linear(x)[0], r"returned \[5\] of torch.float32 for 2 images"),
        (lambda x: linear(x)[:3], r"returned \[3, 5\] of torch.float32 for 7 images"),
        (lambda x: linear(x)[:, :, None, None], r"returned \[2, 5, 1, 1\]"),
        (lambda x: linear(x).argmax(1), r"returned \[2\] of torch.int64"),
        (lambda x: linear(x).long(), r"returned \[2, 5\] of torch.int64"),
        (lambda x: linear(x).sum(), r"returned \[\] of torch.float32"),
        (lambda x: linear(x)[:, :0], "returned no score .* expected two classes or more, or one score"),
        (lambda x: linear(x)[:, 0].sum(0, keepdim=True), r"returned \[1\] of torch.float32 for"),
    ],
)
def test_outputs_that_are_no_logits(output, message: str) -> None:
    for access in (Access.GRADIENT, Access.LABELS):
        with pytest.raises(ModelError, match=message):
            look(Plain(output), access)


def test_a_batch_of_one_is_no_exception() -> None:
    with pytest.raises(ModelError, match="for 1 images"):
        checked_logits(torch.zeros(5), 1)


@pytest.mark.parametrize("shape", [lambda s: s, lambda s: s[:, 0], lambda s: s.squeeze()])
@pytest.mark.parametrize("n", [1, 3])
def test_one_score_per_image_is_two_logits(shape, n: int) -> None:
    score = torch.linspace(-1, 2, n)[:, None]
    torch.testing.assert_close(checked_logits(shape(score), n), torch.cat([torch.zeros(n, 1), score], 1))
    assert checked_logits(shape(score).half(), n).dtype is torch.float32


@pytest.mark.parametrize("overflow", [torch.inf, -torch.inf, torch.nan])
def test_one_infinite_score_is_no_answer(overflow: float) -> None:
    logits = checked_logits(torch.tensor([[overflow], [1.0]]), 2)
    assert scored(logits).tolist() == [False, True]


@torch.no_grad()
def _without_grad(x: Tensor) -> Tensor:
    return linear(x)


@pytest.mark.parametrize(
    "function",
    [
        _without_grad,
        lambda x: linear(x.detach()),
        lambda x: linear(x).detach(),
        lambda x: torch.ones(len(x), 5),
        lambda x: torch.as_tensor(linear(x).detach().numpy()),
    ],
    ids=["no_grad", "input detached", "output detached", "constant", "through numpy"],
)
def test_a_model_hidden_from_autograd_is_an_error_not_a_robust_model(function) -> None:
    """The gradient would be 0, no attack would move, and every sample would survive."""
    for method in (FGSM(), PGD(3)):
        with pytest.raises(ModelError, match="Gradient attacks cannot measure such a model"):
            attack(Plain(function), method)
    # without a gradient it can be measured
    assert len(attack(Plain(function), UniformNoise()).success) == N


def test_inference_mode_is_an_error_not_a_robust_model() -> None:
    with torch.inference_mode(), pytest.raises(ModelError, match="inference_mode"):
        attack(Plain(linear))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_another_precision(dtype: torch.dtype) -> None:
    for keeps in Keeps:
        found = attack(Plain(lambda x: linear(x).to(dtype)), keeps=keeps)
        assert bool(found.success.any())
        assert found.x.dtype == X.dtype


def test_a_gradient_that_is_one_number_for_all_pixels() -> None:
    """Autograd returns it as an expanded view, which must not be written to."""
    found = attack(Plain(lambda x: torch.cat([x.sum((2, 3)), 3 - x.sum((2, 3)), x.sum((2, 3))[:, :1]], 1)))
    assert float(found.size.min()) == pytest.approx(0.2)


# ---- numbers that are none


def broken_at(condition, value: float):
    """Return a linear model whose logits become `value` where the condition of the image holds."""
    return Plain(lambda x: torch.where(condition(x)[:, None], value, linear(x)))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("keeps", list(Keeps))
def test_a_model_that_fails_when_attacked_is_neither_broken_nor_robust(value: float, keeps: Keeps) -> None:
    """All logits NaN (or the same infinity) anywhere but at the clean image: nothing is known, and that is counted."""
    model = broken_at(lambda x: (x != X[: len(x)]).flatten(1).any(1), value)
    y = linear(X).argmax(1)
    problem = Problem(TorchOracle(model), X, Untargeted(y), Linf(0.1))
    found = search(FGSM(), problem, DRAWS, keeps=keeps)
    assert not bool(found.success.any())
    assert found.unscored.tolist() == [1] * len(X)
    assert not bool(found.gap.isnan().any())
    # the image itself was the one point with scores
    best = bool(torch.equal(found.x, X))
    assert best == (keeps is not Keeps.LAST)
    assert bool(found.logits.isfinite().all()) == best


@pytest.mark.parametrize("which", range(5))
def test_a_single_nan_among_the_logits_is_no_success(which: int) -> None:
    def function(x: Tensor) -> Tensor:
        spoiled = torch.zeros(5)
        spoiled[which] = torch.nan
        return linear(x) + torch.where((x != X[: len(x)]).flatten(1).any(1)[:, None], spoiled, 0.0)

    y = linear(X).argmax(1)
    for goal in (Untargeted(y), Targeted(y, (y + 1) % 5), OutOfTop(y, 1)):
        found = search(FGSM(), Problem(TorchOracle(Plain(function)), X, goal, Linf(0.5)), DRAWS)
        assert not bool(found.success.any())
        assert bool(found.logits.isnan().any(1).all()), "the NaN is there to be seen"


def test_a_nan_gradient_in_one_pixel_does_not_stop_the_others() -> None:
    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            grad = grad.clone()
            grad[:, 0, 0, 0] = torch.nan
            grad[:, 0, 0, 1] = torch.inf
            grad[:, 0, 0, 2] = -torch.inf
            return grad

    model = Plain(lambda x: linear(Spoiled.apply(x)))
    seen = look(model)
    assert bool(seen.grad.isfinite().all())
    assert not bool(seen.grad[:, 0, 0, 0].any())
    assert bool((seen.grad[:, 0, 0, 1] > 0).all())
    assert bool((seen.grad[:, 0, 0, 2] < 0).all())
    for threat in (Linf(0.2),):
        found = search(FGSM(), Problem(TorchOracle(model), X, GOAL, threat), DRAWS)
        moved = (found.x != X).flatten(1).float().mean(1)
        assert bool((moved > 0.5).all())


def test_a_flat_model_has_gradient_zero() -> None:
    flat = Plain(lambda x: linear(x).round())
    seen = look(flat)
    assert not bool(seen.grad.any())


def test_input_gradient_of_parts_that_do_not_meet() -> None:
    points = X.clone().requires_grad_()
    grad, count = input_gradient(torch.stack([points.flatten(1).sum(1), (2 * points).flatten(1).sum(1)], 1), points)
    assert count == 2
    assert torch.equal(grad[:, 1], 2 * grad[:, 0])


# ---- models that write where they should not


@pytest.mark.parametrize("method", [FGSM(), PGD(3), UniformNoise()], ids=lambda method: type(method).__name__)
def test_a_model_that_works_in_place_changes_nothing_of_ours(method) -> None:
    """Normalising in place must not reach the caller's images, nor the point that is judged."""
    before = X.clone()
    inplace = attack(Plain(lambda x: linear(x.sub_(0.5).mul_(3))), method)
    outside = attack(Plain(lambda x: linear((x - 0.5) * 3)), method)
    assert torch.equal(X, before)
    assert torch.equal(inplace.x, outside.x)
    assert torch.equal(inplace.success, outside.success)
    assert float(inplace.size.max()) <= 0.2 + 1e-6


def test_images_that_carry_a_graph() -> None:
    x = X.clone().requires_grad_()
    found = search(PGD(3), Problem(TorchOracle(Plain(linear)), x * 1.0, GOAL, Linf(0.1)), DRAWS)
    assert not any(part.requires_grad for part in found)
    assert x.grad is None


def test_the_parameters_get_no_gradients() -> None:
    net = Net().eval()
    attack(net)
    assert all(parameter.grad is None for parameter in net.parameters())


# ---- memory


class Small(nn.Module):
    """A machine with room for `room` images."""

    def __init__(self, room: int, text: str = "DefaultCPUAllocator: can't allocate memory") -> None:
        super().__init__()
        self.room = room
        self.text = text
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise RuntimeError(self.text)
        return linear(x)


@pytest.mark.parametrize("room", [1, 2, 3, 6])
@pytest.mark.parametrize("batch", [None, 5])
def test_memory_that_runs_out_halves_the_batch(room: int, batch: int | None) -> None:
    model = Small(room)
    oracle = TorchOracle(model, batch)
    seen = oracle.look(X, GOAL, cross_entropy, Access.GRADIENT, DRAWS)
    whole = look(Plain(linear))
    for one, other in zip((*seen[:5], *seen.cost), (*whole[:5], *whole.cost), strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-5)
    assert sum(size for size in model.sizes if size <= room) == N
    # the size that fits is remembered
    model.sizes.clear()
    oracle.look(X, GOAL, cross_entropy, Access.LABELS, DRAWS)
    assert max(model.sizes) <= room


def test_a_single_image_too_large_is_said_so() -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        look(Small(0))


@pytest.mark.parametrize(
    "text", ["CUDA out of memory. Tried to allocate", "MPS backend out of memory", "not enough memory: you tried"]
)
def test_memory_errors_have_many_names(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    assert out_of_memory(torch.OutOfMemoryError("x"))
    seen = look(Small(2, text))
    assert len(seen.logits) == N


def test_other_errors_are_not_retried() -> None:
    model = Small(2, "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        look(model)
    assert model.sizes == [7]


def test_a_search_on_a_small_machine_finds_the_same() -> None:
    for method in (FGSM(), PGD(5)):
        small, large = attack(Small(2), method), attack(Plain(linear), method)
        assert torch.equal(small.x, large.x)
        assert torch.equal(small.forwards, large.forwards)
        assert torch.equal(small.backwards, large.backwards)


# ---- the model is left as it was


def state_of(net: nn.Module) -> tuple[list[bool], list[bool], list[Tensor]]:
    modes = [module.training for module in net.modules()]
    return modes, [p.requires_grad for p in net.parameters()], [v.clone() for v in net.state_dict().values()]


def mixed() -> Net:
    """Return a network in a state nobody would guess: parts in either mode, parts frozen."""
    net = Net().train()
    net.body[1].eval()
    net.head.eval()
    net.body.training = False
    net.body[0].weight.requires_grad_(False)
    return net


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt, ModelError])
def test_frozen_restores_every_mode_and_flag(failure) -> None:
    net = mixed()
    before = state_of(net)
    hold = pytest.raises(failure) if failure else frozen(net)
    with hold, frozen(net) as held:
        assert held is net
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        attack(net)
        if failure:
            raise failure("on purpose")
    after = state_of(net)
    assert before[:2] == after[:2]
    for one, other in zip(before[2], after[2], strict=True):
        assert torch.equal(one, other)


def test_frozen_can_leave_the_modes_alone() -> None:
    net = mixed()
    modes = [module.training for module in net.modules()]
    with frozen(net, training=None):
        assert [module.training for module in net.modules()] == modes
        assert not any(parameter.requires_grad for parameter in net.parameters())
    with frozen(net, training=True):
        assert all(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == modes


def test_frozen_inside_frozen() -> None:
    net = mixed()
    before = state_of(net)
    with frozen(net):
        with frozen(net):
            pass
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
    assert state_of(net)[:2] == before[:2]


def test_the_memory_layout_changes_no_value() -> None:
    net = Net().eval()
    plain = net(X).detach()
    with frozen(net):
        assert torch.allclose(look(net, Access.SCORES).logits, plain, atol=1e-6)
    assert torch.allclose(net(X), plain, atol=1e-6)


def test_batch_norm_statistics_stay() -> None:
    net = Net().train()
    before = net.body[1].running_mean.clone()
    with frozen(net):
        attack(net, PGD(3))
    assert torch.equal(net.body[1].running_mean, before)
    assert int(net.body[1].num_batches_tracked) == 0
