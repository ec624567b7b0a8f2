"""The functions a notebook calls: results, models left as they were, and what is said about bad input."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import assay
from assay.core.errors import BadInput, ModelError
from assay.models import Normalized

EPS = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16]


class Net(nn.Module):
    """Four classes of 3 x 4 x 5 images, with parts that have a mode; it counts the rows of its forward passes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 2), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(72, 4)
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return 3 * self.head(self.drop(self.body(x)))


@pytest.fixture
def model() -> Net:
    return Net()


X = torch.rand(10, 3, 4, 5, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    Y = Net().eval()(X).argmax(1)
THREAT = assay.Linf("8/255")


def test_one_attack(model: Net) -> None:
    result = assay.attack(assay.PGD(steps=10), model, X, Y, threat=assay.Linf(0.1))
    assert isinstance(result, assay.Attacked)
    assert result.x_adv.shape == X.shape
    assert bool(((result.x_adv >= 0) & (result.x_adv <= 1)).all())
    assert bool(((result.x_adv - X).abs() <= 0.1 + 1e-6).all())
    assert torch.allclose(result.size, (result.x_adv - X).abs().amax((1, 2, 3)))
    with torch.no_grad():
        logits = model.eval()(result.x_adv)
    assert torch.allclose(result.logits, logits, atol=1e-5)
    assert torch.equal(result.success, logits.argmax(1) != Y)
    assert result.robust_accuracy == pytest.approx(1 - float(result.success.float().mean()))
    assert 0 < result.robust_accuracy < 1
    assert bool((result.forwards <= 11).all())
    assert torch.equal(result.queries, result.forwards)
    assert bool((result.backwards <= 10).all())
    for counts in (result.forwards, result.backwards, result.queries):
        assert counts.dtype == torch.int64
        assert counts.shape == (10,)


def test_the_threat_is_kept_as_it_was_written(model: Net) -> None:
    result = assay.attack(assay.FGSM(), model, X, Y, threat=THREAT)
    assert result.threat.budget.written == "8/255"
    assert result.threat.eps == 8 / 255


def test_the_counts_are_the_model_s(model: Net) -> None:
    """One row more: the look at one image that says how many classes there are."""
    result = assay.attack(assay.FGSM(), model, X, Y, threat=THREAT)
    assert int(result.forwards.sum()) == 20
    assert model.rows == 21
    assert result.backwards.tolist() == [1] * 10


def test_a_sweep(model: Net) -> None:
    """Eight budgets of FGSM: nine forwards and one backward per image."""
    results = assay.sweep(assay.FGSM(), model, X, Y, threats=[assay.Linf(eps) for eps in EPS])
    assert [result.threat.eps for result in results] == EPS
    assert sum(int(result.forwards.sum()) for result in results) == 90
    assert sum(int(result.backwards.sum()) for result in results) == 10
    assert model.rows == 91
    for eps, result in zip(EPS, results, strict=True):
        alone = assay.attack(assay.FGSM(), model, X, Y, threat=assay.Linf(eps))
        assert torch.equal(result.x_adv, alone.x_adv)
        assert torch.equal(result.success, alone.success)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_a_worst_case_sweep_only_falls(model: Net, order: str) -> None:
    threats = [assay.Linf(eps) for eps in (0.1, 0.02, 0.06)]
    results = assay.sweep(assay.PGD(steps=5), model, X, Y, threats, question="worst_case", order=order)
    one, two, three = (results[i].robust_accuracy for i in (1, 2, 0))
    assert one >= two >= three
    assert one > three
    for threat, result in zip(threats, results, strict=True):
        assert bool((result.size <= float(threat.eps) * (1 + 1e-5) + 1e-6).all())
        assert result.threat.budget.written == threat.budget.written
        assert result.logits.shape == (10, 4)
        assert bool(result.logits.isfinite().all())


def test_settings(model: Net) -> None:
    goal = assay.Targeted(Y, (Y + 1) % 4)
    result = assay.attack(assay.PGD(steps=5), model, X, Y, assay.Linf(0.3), goal=goal, keep="last", batch=3)
    assert torch.equal(result.success, result.logits.argmax(1) == goal.t)
    assert result.forwards.tolist() == [6] * 10
    smallest = assay.attack(assay.BIM(), model, X, Y, assay.Linf(0.3), keep="smallest")
    last = assay.attack(assay.BIM(), model, X, Y, assay.Linf(0.3), keep="last")
    assert bool((smallest.size <= last.size + 1e-6)[smallest.success].all())


def test_seeds_and_ids_name_the_randomness(model: Net) -> None:
    def images(x: Tensor = X, y: Tensor = Y, **settings) -> Tensor:
        return assay.attack(assay.UniformNoise(), model, x, y, assay.Linf(0.1), **settings).x_adv

    assert torch.equal(images(), images(seed=0))
    assert not torch.equal(images(), images(seed=1))
    names = [f"digit {i}" for i in range(10)]
    whole = images(ids=names)
    assert torch.equal(images(X[4:7], Y[4:7], ids=names[4:7]), whole[4:7])
    assert torch.equal(images(X.flip(0), Y.flip(0), ids=names[::-1]), whole.flip(0))
    assert not torch.equal(images(ids=["other " + name for name in names]), whole)


def test_budgets_per_sample_and_per_channel(model: Net) -> None:
    eps = torch.linspace(0, 0.2, 10)
    result = assay.attack(assay.FGSM(), model, X, Y, assay.Linf(eps))
    assert bool((result.size <= eps + 1e-6).all())
    assert torch.equal(result.x_adv[0], X[0])
    result = assay.attack(assay.FGSM(), model, X, Y, assay.Linf(["8/255", "4/255", "0.5/255"]))
    worst = (result.x_adv - X).abs().amax((0, 2, 3)) * 255
    assert worst.tolist() == pytest.approx([8, 4, 0.5], abs=1e-3)
    result = assay.attack(assay.FGSM(), model, X, Y, assay.Linf(eps.double()))
    assert result.x_adv.dtype == torch.float32


def test_normalised_units(model: Net) -> None:
    inside = Normalized(model, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    result = assay.attack(assay.FGSM(), inside, X, Y, assay.Linf("normalized 0.1", box=False))
    move = (result.x_adv - X).abs().amax((0, 2, 3))
    assert move.tolist() == pytest.approx([0.02, 0.025, 0.03], abs=1e-5)
    threats = [assay.Linf(f"normalized {eps}", box=False) for eps in (0.1, 0.2)]
    one, two = assay.sweep(assay.FGSM(), inside, X, Y, threats)
    assert torch.allclose(one.x_adv, result.x_adv, atol=1e-6)
    assert two.threat.budget.written == "normalized 0.2"


def test_a_grid_rounds_the_images_and_the_result(model: Net) -> None:
    result = assay.attack(assay.PGD(steps=5), model, X, Y, assay.Linf("8/255", grid=255))
    assert torch.equal((result.x_adv * 255).round() / 255, result.x_adv)
    assert bool((result.size <= 8 / 255 + 1e-6).all())


def test_without_a_box(model: Net) -> None:
    result = assay.attack(assay.FGSM(), model, X * 3 - 1, Y, assay.Linf(0.5, box=False))
    assert float(result.x_adv.min()) < -1
    assert torch.allclose(result.size, torch.full((10,), 0.5), atol=1e-5)


def test_double_precision(model: Net) -> None:
    result = assay.attack(assay.FGSM(), model.double(), X.double(), Y, THREAT)
    assert result.x_adv.dtype == torch.float64


def test_inside_no_grad(model: Net) -> None:
    with torch.no_grad():
        inside = assay.attack(assay.FGSM(), model, X, Y, THREAT)
    assert torch.equal(inside.x_adv, assay.attack(assay.FGSM(), model, X, Y, THREAT).x_adv)
    assert float(inside.size.min()) > 0.01


def test_no_images(model: Net) -> None:
    result = assay.attack(assay.FGSM(), model, X[:0], Y[:0], THREAT)
    assert result.x_adv.shape == (0, 3, 4, 5)
    assert [len(one.success) for one in assay.sweep(assay.FGSM(), model, X[:0], Y[:0], [THREAT, assay.Linf(0.1)])] == [
        0,
        0,
    ]
    assert assay.sweep(assay.FGSM(), model, X, Y, threats=[]) == []


def test_the_results_of_version_one_s_names_exist() -> None:
    names = [field.name for field in dataclasses.fields(assay.Attacked)]
    assert names[:6] == ["x_adv", "success", "size", "logits", "forwards", "backwards"]


# ---- what is left as it was


@pytest.mark.parametrize("failing", [False, True])
def test_the_model_is_left_as_it_was(failing: bool) -> None:
    model = Net().train()
    model.body[1].eval()
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    values = [value.clone() for value in model.state_dict().values()]
    x = X.clone()
    if failing:
        model.head = nn.Identity()  # 72 classes, then none that fit: the forward pass itself goes on
        modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
        values = [value.clone() for value in model.state_dict().values()]
        with pytest.raises(BadInput):
            assay.attack(assay.FGSM(), model, x, Y, THREAT, goal=assay.OutOfTop(Y, 100))
    else:
        assay.attack(assay.PGD(steps=2), model, x, Y, THREAT)
        assay.sweep(assay.PGD(steps=2), model, x, Y, [THREAT])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    for before, after in zip(values, model.state_dict().values(), strict=True):
        assert torch.equal(before, after)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(x, X)


def test_a_model_in_training_mode_is_measured_in_eval_mode(model: Net) -> None:
    model.train()
    one = assay.attack(assay.FGSM(), model, X, Y, THREAT)
    two = assay.attack(assay.FGSM(), model.eval(), X, Y, THREAT)
    assert torch.equal(one.x_adv, two.x_adv)
    assert torch.equal(one.logits, two.logits)


# ---- bad input

BAD = {
    "255": ((X * 255, Y), r"pixels from .* outside the box \[0, 1\]\. .*divide 8-bit values by 255"),
    "negative": ((X - 0.5, Y), r"outside the box \[0, 1\]"),
    "nan": ((X.clone().index_fill_(0, torch.tensor([3]), math.nan), Y), "NaN or infinite pixels"),
    "inf": ((X.clone().index_fill_(0, torch.tensor([3]), math.inf), Y), "NaN or infinite pixels"),
    "uint8": (((X * 255).byte(), Y), r"torch\.uint8, expected floating-point images \[N, C, H, W\]: x.float\(\) / 255"),
    "one image": ((X[0], Y[:1]), r"x is \[3, 4, 5\] .* expected floating-point images .*x\[None\] for one image"),
    "flat": ((X.flatten(1), Y), r"x is \[10, 60\] .*x\.reshape\(-1, C, H, W\)"),
    "half": ((X.half(), Y), "expected float32 or float64"),
    "int32 labels": ((X, Y.int()), r"y is \[10\] of torch\.int32, expected int64 labels \[10\]"),
    "float labels": ((X, Y.float()), "expected int64 labels"),
    "one-hot labels": ((X, torch.eye(4)[Y]), r"y is \[10, 4\]"),
    "too few labels": ((X, Y[:9]), r"y is \[9\] .* expected int64 labels \[10\]"),
    "label too high": ((X, Y + 4), "label 4, but the model has 4 classes, 0 to 3"),
    "label negative": ((X, Y - 5), r"The label -\d is negative"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_images_and_labels(model: Net, what: str) -> None:
    (x, y), message = BAD[what]
    with pytest.raises(BadInput, match=message):
        assay.attack(assay.FGSM(), model, x, y, THREAT)
    with pytest.raises(BadInput, match=message):
        assay.sweep(assay.FGSM(), model, x, y, [THREAT])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sed": 1}, "Unknown setting 'sed'. Did you mean 'seed'"),
        ({"keep": "best"}, "keep is 'best', expected one of last, first, worst, smallest"),
        ({"ids": ["a", "b"]}, "2 ids for 10 images; expected one per image"),
        ({"goal": assay.OutOfTop(Y, 4)}, "No label can leave the top 4 of 4 classes"),
    ],
)
def test_bad_settings(model: Net, settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        assay.attack(assay.FGSM(), model, X, Y, THREAT, **settings)


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        (lambda: assay.Linf("normalized 0.1"), "normalisation is unknown.*Put it inside the model"),
        (lambda: assay.Linf([0.1, 0.2]), "for 2 channels, the images have 3"),
        (lambda: assay.Linf(torch.full((9,), 0.1)), r"\[9\] budgets for 10 images"),
        (lambda: assay.Linf(8), "Did you mean 8/255"),
        (lambda: assay.L2(math.inf), "budget is infinite"),
    ],
)
def test_bad_threats(model: Net, threat, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        assay.attack(assay.FGSM(), model, X, Y, threat())


@pytest.mark.parametrize(
    ("threats", "settings", "message"),
    [
        ([assay.Linf(0.1), assay.L2(0.1)], {}, "may differ in their budget only"),
        ([assay.Linf(0.1), assay.Linf(0.2, box=False)], {}, "may differ in their budget only"),
        ([assay.Linf(0.1), assay.Linf(0.2, grid=255)], {}, "may differ in their budget only"),
        ([assay.Linf(0.1), assay.Linf("normalized 0.1")], {}, "may differ in their budget only"),
        ([assay.Linf(torch.full((10,), 0.1))], {}, "one number per threat"),
        ([assay.Linf([0.1, 0.1, 0.1])], {}, "one number per threat"),
        ([THREAT], {"question": "worst"}, "question is 'worst', expected one of worst_case, as_attacked"),
        ([THREAT], {"order": "up"}, "order is 'up', expected one of ascending, descending"),
        ([THREAT], {"questions": "worst_case"}, "Unknown setting 'questions'"),
    ],
)
def test_bad_sweeps(model: Net, threats: list, settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        assay.sweep(assay.FGSM(), model, X, Y, threats, **settings)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: (x.flatten(1), x), "returned a tuple"),
        (lambda x: {"logits": x.flatten(1)}, "returned a dict"),
        (lambda x: x.flatten(1)[:, :0], "returned no score"),
        (lambda x: x.flatten(1).detach(), "output has no gradient"),
        (lambda x: x, r"returned \[1, 3, 4, 5\]"),
    ],
)
def test_bad_models(output, message: str) -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor):
            return output(x)

    with pytest.raises(ModelError, match=message):
        assay.attack(assay.FGSM(), Bad(), X, Y, THREAT)


def test_inside_inference_mode_is_an_error_not_a_robust_model(model: Net) -> None:
    with torch.inference_mode(), pytest.raises(ModelError, match="inference_mode"):
        assay.attack(assay.FGSM(), model, X, Y, THREAT)


# ---- what would otherwise be a raw error from inside, or worse, an answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "pgd"}, "method is 'pgd'; expected an attack"),
        ({"method": assay.PGD}, "method is the class PGD"),
        ({"threat": 8 / 255}, "expected one such as assay.Linf"),
        ({"x": X.numpy()}, "x is a ndarray"),
        ({"y": Y.tolist()}, "y is a list"),
        ({"goal": assay.Targeted(Y, Y + 9)}, "out of range"),
        ({"goal": assay.Untargeted((Y + 1) % 4)}, "other labels than y"),
        ({"goal": assay.Targeted(Y[:3], Y[:3])}, "other labels than y"),
        ({"goal": "targeted"}, "expected a goal"),
    ],
)
def test_more_bad_input(model: Net, change: dict, message: str) -> None:
    given = {"method": assay.FGSM(), "model": model, "x": X, "y": Y, "threat": THREAT, **change}
    with pytest.raises(BadInput, match=message):
        assay.attack(**given)


def test_probabilities_are_refused(model: Net) -> None:
    """A saturated softmax has no gradient: the model would look robust."""
    with pytest.raises(BadInput, match="returns probabilities"):
        assay.attack(assay.FGSM(), nn.Sequential(model, nn.Softmax(1)), X, Y, THREAT)


def test_a_sweep_takes_a_list_and_no_keep(model: Net) -> None:
    with pytest.raises(BadInput, match="list of threats"):
        assay.sweep(assay.FGSM(), model, X, Y, THREAT)
    with pytest.raises(BadInput, match="no keep"):
        assay.sweep(assay.FGSM(), model, X, Y, [THREAT], keep="last")


def test_images_with_a_gradient_of_their_own(model: Net) -> None:
    result = assay.attack(assay.FGSM(), model, X.clone().requires_grad_(), Y, THREAT)
    assert not result.x_adv.requires_grad


def test_evaluate_stays_a_function() -> None:
    """The name is also a package: importing it must not take the function's place."""
    assert callable(assay.attack)
    assert callable(assay.evaluate)
    assert callable(assay.evaluate)


def test_adversarial_images_are_exported_from_where_they_were_made(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(20, 3, 2, 2)
    y = net(x).argmax(1).detach()
    found = assay.evaluate(
        net, TensorDataset(x, y), "fgsm", assay.Linf(0.2), out=tmp_path / "run", audit="off", doctor=False
    )
    exported = found.export_images(tmp_path / "images", "npy", only="all")
    (result,) = found.results()
    assert exported.images == 20 and exported.broken == exported.fooling == round(20 * (1 - result.robust_accuracy))
    one = assay.attack(assay.FGSM(), net, x, y, assay.Linf(0.2))
    (file,) = (tmp_path / "images").rglob("*.npy")
    assert torch.equal(torch.from_numpy(np.load(file)), one.x_adv)
    with pytest.raises(assay.BadInput, match="Unknown choice 'atacks'"):
        found.export_images(tmp_path / "more", atacks=["fgsm"])
