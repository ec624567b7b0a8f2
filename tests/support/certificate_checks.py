"""Checks that a sound certificate passes, and that anybody's can be put to: closed forms, and every point of a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from assay.certification import Certificate, Certificates
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.norms import NORMS
from assay.core.problem import Problem
from assay.core.threat import UNBOXED, Threat
from assay.models import Classifier


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, images `[N, 1, 1, 2]` or `[N, C, H, W]` with labels, and a threat with budgets."""

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    budgets: tuple[float, ...]


def prove(method: Certificate, case: Case) -> Certificates:
    """Return what a method proves of a case."""
    model = Classifier(case.module)
    problem = Problem(model.oracle(), case.x, Untargeted(case.y), case.threat)
    method.check(model, problem)
    return method.prove(model, problem, case.budgets, Draws(torch.arange(len(case.x))))


def leads(module: nn.Module, images: Tensor, y: Tensor) -> Tensor:
    """Return how far the logit of the label leads every other one, `[N]`, in double precision."""
    with torch.no_grad():
        logits = module(images).double()
    own = logits.gather(1, y[:, None])
    return (own - logits.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)


def two_inputs(seed: int, layers: int = 2, norm: bool = False) -> nn.Module:
    """Return a network of two inputs and three classes, in eval mode; `norm` puts a batch norm into it."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = [nn.Flatten()]
    width = 2
    for _ in range(layers):
        parts.append(nn.Linear(width, 6))
        if norm:
            parts.append(nn.BatchNorm1d(6))
        parts.append(nn.ReLU())
        width = 6
    net = nn.Sequential(*parts, nn.Linear(width, 3))
    with torch.no_grad():
        for one in net.modules():
            if isinstance(one, nn.Linear):
                one.weight.normal_(0, 1.2)
                one.bias.normal_(0, 0.7)
            if isinstance(one, nn.BatchNorm1d):
                one.running_mean.normal_(0, 1)
                one.running_var.uniform_(0.3, 4)
    return net.eval()


def grid_cases() -> Iterator[Case]:
    """Yield small networks of two inputs, of which every point of a ball can be looked at."""
    for seed in range(6):
        net = two_inputs(seed, layers=1 + seed % 2, norm=seed % 2 == 0)
        x = torch.rand(12, 1, 1, 2, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            y = net(x).argmax(1)
        norm = ("linf", "l2", "l1")[seed % 3] if seed < 3 else "linf"
        box = UNBOXED if seed == 3 else (0.0, 1.0)
        yield Case(f"grid {seed}", net, x, y, Threat(NORMS[norm], box=box), (0.02, 0.1, 0.4))


def linear_case(norm: str, offset: float = 0.0) -> Case:
    """Return a linear network without a box: its leads inside a ball are known exactly."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with torch.no_grad():
        net[1].bias.normal_(offset, 1)
    x = torch.rand(10, 1, 4, 4)
    with torch.no_grad():
        y = net(x).argmax(1)
    return Case(f"linear {norm}", net, x, y, Threat(NORMS[norm], box=UNBOXED), (0.01, 0.1, 0.4))


def exact_linear(case: Case, budget: float) -> Tensor:
    """Return the smallest lead `[N]` of a `linear_case` at a budget: the lead minus eps times the dual norm."""
    layer = case.module[1]
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    apart = weight[case.y][:, None] - weight
    at_x = (apart * case.x.double().flatten(1)[:, None]).sum(2) + bias[case.y][:, None] - bias
    dual = {"linf": apart.abs().sum(2), "l2": apart.norm(dim=2), "l1": apart.abs().amax(2)}[case.threat.norm.name]
    return (at_x - budget * dual).scatter(1, case.y[:, None], torch.inf).amin(1)


def worst_on_grid(case: Case, budget: float, points: int = 25) -> Tensor:
    """Return the smallest lead `[N]` of the network itself over a grid of the ball, cut by the box."""
    line = torch.linspace(-budget, budget, points)
    steps = torch.stack(torch.meshgrid(line, line, indexing="ij"), 2).reshape(-1, 1, 1, 2)
    z = case.threat.clip(case.x[:, None] + steps)
    n, m = z.shape[:2]
    flat, x = z.flatten(0, 1), case.x.repeat_interleave(m, 0)
    found = leads(case.module, flat, case.y.repeat_interleave(m))
    allowed = case.threat.at(budget).allows(case.threat.size(flat, x))
    return torch.where(allowed, found, torch.inf).view(n, m).amin(1)


def contradictions(method: Certificate) -> Iterator[str]:
    """Yield which checks a method fails, in words; a sound one none."""
    for norm, offset in (("linf", 0.0), ("l2", 0.0), ("l1", 0.0), ("linf", 3000.0)):
        case = linear_case(norm, offset)
        yield from _compared(method, case, [exact_linear(case, budget) for budget in case.budgets])
    for case in grid_cases():
        yield from _compared(method, case, [worst_on_grid(case, budget) for budget in case.budgets])


def _compared(method: Certificate, case: Case, truth: list[Tensor]) -> Iterator[str]:
    proved = prove(method, case)
    for b, worst in enumerate(truth):
        if bool((proved.certified[b] & (worst <= 0)).any()):
            yield f"{case.name} at {case.budgets[b]}: a certified image is broken"
        if proved.lower is not None and bool((proved.lower[b] > worst + 1e-6).any()):
            yield f"{case.name} at {case.budgets[b]}: the bound is above what is reached"
    if bool((proved.certified[1:] & ~proved.certified[:-1]).any()):
        yield f"{case.name}: certified at a larger budget, not at a smaller one"
