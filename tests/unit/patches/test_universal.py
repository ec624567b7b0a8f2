"""Universal perturbations: found on a known model, kept as a file, refused where they do not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.universal import Added, added
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import search
from assay.core.threat import L2, Linf
from assay.data import Data, Sample
from assay.models import Classifier
from assay.patches.universal import Universal, UniversalRecipe, train_universal


class Halves(nn.Module):
    """Two classes, one per half: the brighter half wins, by its sum."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.stack([x[..., :half].flatten(1).sum(1), x[..., half:].flatten(1).sum(1)], 1)


@dataclasses.dataclass(frozen=True)
class Kept:
    """Images in memory as a data set: all of class 0, a little brighter on the left."""

    count: int = 40
    source: str = "halves"
    fingerprint: str = "1"
    input_shape: tuple[int, int, int] = (1, 4, 6)
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.count

    def load(self, positions) -> list[Sample]:
        made = torch.Generator().manual_seed(0)
        x = 0.3 + 0.2 * torch.rand(self.count, 1, 4, 6, generator=made)
        x[..., :3] += 0.15
        return [Sample(f"halves/{i}", x[i], 0) for i in positions]


def data() -> Data:
    return Kept()


def model() -> Classifier:
    return Classifier(Halves(), spec="halves", input_shape=(1, 4, 6))


def test_it_finds_the_direction_of_a_linear_model() -> None:
    found = train_universal([model()], data(), UniversalRecipe(eps=0.2, steps=15, batch=20))
    assert torch.allclose(found.change[..., :3], torch.full((1, 4, 3), -0.2), atol=1e-5)
    assert torch.allclose(found.change[..., 3:], torch.full((1, 4, 3), 0.2), atol=1e-5)


def test_a_target_is_led_to_and_progress_is_told() -> None:
    told: list[tuple[int, float, float]] = []
    recipe = UniversalRecipe(norm="l2", eps=0.5, steps=12, batch=20, target=1)
    found = train_universal([model()], data(), recipe, on_progress=lambda *now: told.append(now))
    assert [step for step, _, _ in told] == list(range(1, 13))
    assert told[-1][1] > told[0][1]
    assert float(found.change.norm()) == pytest.approx(0.5, abs=1e-4)
    again = train_universal([model()], data(), recipe)
    assert torch.equal(again.change, found.change)
    assert again.digest == found.digest


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    made = Universal(torch.rand(3, 4, 5) - 0.5, "linf", 0.1, {"data": "x"})
    made.save(tmp_path / "u.safetensors")
    read = Universal.load(tmp_path / "u.safetensors")
    assert torch.equal(read.change, made.change)
    assert (read.norm, read.eps, read.facts, read.digest) == ("linf", 0.1, {"data": "x"}, made.digest)
    with pytest.raises(BadInput, match=r"no universal perturbation .*v.safetensors.*Did you mean 'u.safetensors'"):
        Universal.load(tmp_path / "v.safetensors")


def test_the_attack_adds_it_inside_budget_and_box() -> None:
    x = torch.tensor([0.05, 0.5, 0.95]).view(1, 1, 1, 3)
    change = torch.tensor([-0.2, 0.2, 0.2]).view(1, 1, 3)
    problem = Problem(TorchOracle(nn.Flatten()), x, Untargeted(torch.zeros(1, dtype=torch.int64)), Linf(0.1))
    found = search(Added(change), problem, Draws.of(["a"], 0))
    assert torch.allclose(found.x, torch.tensor([0.0, 0.6, 1.0]).view(1, 1, 1, 3))
    small = dataclasses.replace(problem, threat=L2(0.05))
    assert float(search(Added(change), small, Draws.of(["a"], 0)).size) <= 0.05 + 1e-6
    with pytest.raises(BadInput, match="for images of 1 x 2 x 3, these are 1 x 1 x 3"):
        search(Added(torch.zeros(1, 2, 3)), problem, Draws.of(["a"], 0))


def test_what_is_applied_can_be_differentiated() -> None:
    variables = torch.zeros(2, 1, 2, 2, requires_grad=True)
    pictures = torch.rand(3, 1, 2, 2)
    applied = added(variables, pictures, Draws.of(["a", "b"], 0))
    assert applied.shape == (2, 3, 1, 2, 2)
    applied.sum().backward()
    assert variables.grad is not None
    assert bool((variables.grad == 3).all())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"norm": "l0"}, "norm is 'l0'"), ({"eps": 0.0}, "eps is 0.0"), ({"steps": 0}, "steps is 0")],
)
def test_recipes_that_cannot_be(change: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        UniversalRecipe(**change)
