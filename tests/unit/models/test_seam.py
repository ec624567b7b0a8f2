"""A model is asked through `Classifier.oracle`, wherever it comes from; few rooms know that there is a torch module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.models import Predictions
from assay.models.classifier import digest_of

SOURCE = Path(assay.__file__).parent
# models make modules, training trains them, certificates read their weights, white-box probes look
# into them, the doctor asks one in train mode
OPEN = ("models", "defenses", "certification", "training", "audit", "preflight", "cli/train")


def test_nothing_else_touches_the_module() -> None:
    touching = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        if not str(path.relative_to(SOURCE)).startswith(OPEN)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "module" and isinstance(node.ctx, ast.Load)
    ]
    assert not touching


def predict(images: object) -> list[list[float]]:
    assert hasattr(images, "mean"), "a NumPy array"
    return [[float(one.mean()), 0.5] for one in images]  # type: ignore[attr-defined]


X = torch.rand(6, 3, 4, 4)
Y = torch.tensor([int(float(one.mean()) < 0.5) for one in X])


def test_an_attack_that_asks_for_too_much_is_refused_with_those_that_fit() -> None:
    model = assay.Classifier(Predictions(predict), access=Access.SCORES)
    with pytest.raises(BadInput, match=r"needs gradient and the model gives scores alone.*square"):
        assay.attack(assay.PGD(), model, X, Y, assay.Linf(0.1))
    done = assay.attack(assay.attacks.build("square", queries=50), model, X, Y, assay.Linf(0.3))
    assert int(done.backwards.sum()) == 0


def test_a_plan_refuses_too_and_names_the_way_out() -> None:
    model = assay.load_model(Predictions(predict), access="scores")
    data = torch.utils.data.TensorDataset(X, Y)
    with pytest.raises(BadInput, match=r"pgd needs gradient, and .* gives scores alone. Attacks that fit: .*surrogate"):
        assay.evaluate(model, data, ["pgd"], assay.Linf(0.1), audit="off", doctor=False)


def test_labels_alone_are_enough_for_some() -> None:
    def named(images: object) -> list[int]:
        return [int(one[0] < one[1]) for one in predict(images)]

    model = assay.load_model(Predictions(named, classes=2), access="labels")
    with pytest.raises(BadInput, match="needs scores and the model gives labels"):
        assay.attack(assay.attacks.build("square", queries=5), model, X, Y, assay.Linf(0.1))
    done = assay.attack(assay.attacks.build("uniform-noise"), model, X, Y, assay.Linf(0.5))
    assert torch.equal(done.logits.sum(1), torch.zeros(6))
    assert torch.equal(done.logits.amax(1), torch.ones(6))


class Around(nn.Module):
    """A network whose weights lie in a file that only it knows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)) * len(self.name), x.amax((1, 2, 3))], 1)


def test_what_a_module_does_not_hold_can_be_part_of_its_digest() -> None:
    one, other = (assay.load_model(Around("model"), identity=f"sha256 {name}").digest for name in ("a", "b"))
    assert one != other
    assert digest_of(assay.Classifier(Around("model"))) not in (one, other)


def test_tensors_that_are_plain_attributes_are_part_of_the_digest() -> None:
    one, other = Around("model"), Around("model")
    one.table, other.table = torch.zeros(3), torch.ones(3)  # type: ignore[assignment]
    assert assay.load_model(one).digest != assay.load_model(other).digest


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_frozen_programs_differ_by_what_is_frozen_into_them() -> None:
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
        digests.add(assay.load_model(torch.jit.freeze(torch.jit.script(network))).digest)
    assert len(digests) == 2


def test_an_unknown_access_is_named() -> None:
    with pytest.raises(BadInput, match="Did you mean 'scores'"):
        assay.load_model(Around("model"), access="score")


def test_a_device_is_refused_or_honoured() -> None:
    data = torch.utils.data.TensorDataset(X, Y)
    for device in ("cuda:7", "abacus", "meta"):
        with pytest.raises(BadInput, match=f"device '{device}'"):
            assay.evaluate(Around("m"), data, ["fgsm"], assay.Linf(0.1), device=device, audit="off", doctor=False)
    assert (
        assay.evaluate(Around("m"), data, ["uniform-noise"], assay.Linf(0.1), device="cpu", audit="off", doctor=False)
        .results()[0]
        .n
        == 6
    )
