from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.models.normalized import Normalized
from assay.training.adversarial import Ensemble, Fast, Madry, Surrogate, Trades, adversarial_loss
from assay.training.dataset_view import InMemory
from assay.training.fit import FitProgress, FitSettings, fit
from assay.training.losses import CrossEntropy
from assay.training.robustness_probe import Probe

DRAWS = Draws(torch.arange(12))


class Spy(nn.Module):
    """A network that notes what it is asked, in which mode, and whether its parameters were held still."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
        self.asked: list[tuple[Tensor, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        held = not any(parameter.requires_grad for parameter in self.parameters())
        self.asked.append((x.detach().clone(), self.training, held))
        logits: Tensor = self.network(x)
        return logits


def images(count: int = 12) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(count) % 3


def surrogate(seed: int = 5) -> Surrogate:
    return Surrogate(f"spy-{seed}", str(seed), Spy(seed).eval())


EVERY = [
    pytest.param(lambda **o: Fast(0.1, **o), 1, 1, True, id="fgsm"),
    pytest.param(lambda **o: Madry(0.1, 5, 0.4, **o), 5, 1, False, id="pgd"),
    pytest.param(lambda **o: Trades(0.1, 5, 0.4, **o), 6, 2, False, id="trades"),
    pytest.param(lambda **o: Ensemble(0.1, (surrogate(),), **o), None, 1, False, id="ensemble"),
]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("make", "searched", "stepped", "as_it_trains"), EVERY)
def test_the_search_stays_inside_and_leaves_the_network_as_it_was(
    make: Any, searched: int | None, stepped: int, as_it_trains: bool, norm: str
) -> None:
    (x, y), model, loss = images(), Spy().train(), make(norm=norm)
    model.network[1].eval()  # a mode of its own, which must survive
    given = x.clone()
    value = loss(model, x, y, DRAWS)
    assert value.shape == (12,)
    assert torch.equal(x, given)
    # the parameters learn, each of them
    value.mean().backward()
    assert all(parameter.grad is not None and parameter.requires_grad for parameter in model.parameters())
    assert [module.training for module in model.modules()].count(False) == 1
    assert not model.network[1].training
    asked = [one for one in model.asked if one[2]]
    trained = [one for one in model.asked if not one[2]]
    assert len(trained) == stepped
    assert all(training for _, training, _ in trained)
    if searched is not None:
        assert len(asked) == searched
        assert all(training is as_it_trains for _, training, _ in asked)
    for point, _, _ in (one for one in model.asked if len(one[0]) == len(x)):
        change = (point - x).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert float(size.max()) <= 0.1 + 1e-6
        assert bool(((point >= 0) & (point <= 1)).all())


@pytest.mark.parametrize(("make", "searched", "stepped", "as_it_trains"), EVERY)
def test_the_passes_it_says_are_those_it_takes(make: Any, searched: int, stepped: int, as_it_trains: bool) -> None:
    (x, y), model, loss = images(), Spy().train(), make()
    loss(model, x, y, DRAWS)
    others = [one.module for one in getattr(loss, "surrogates", ())]
    assert loss.passes * len(x) == sum(len(point) for spy in (model, *others) for point, _, _ in spy.asked)


@pytest.mark.parametrize(("make", "searched", "stepped", "as_it_trains"), EVERY)
def test_equal_draws_give_equal_losses_and_soft_labels_serve_too(
    make: Any, searched: int, stepped: int, as_it_trains: bool
) -> None:
    (x, y), model, loss = images(), Spy().eval(), make()
    first = loss(model, x, y, DRAWS)
    assert torch.equal(loss(model, x, y, DRAWS), first)
    assert not torch.equal(loss(model, x, y, DRAWS.fold(1)), first)
    torch.testing.assert_close(loss(model, x, F.one_hot(y, 3).float(), DRAWS), first)


def linear() -> nn.Module:
    """Return three classes, each the sum of its own twelve pixels: the worst point is known in closed form."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(3).repeat_interleave(12, 1))
    return network


@pytest.mark.parametrize("loss", [Fast(0.05, 2.0), Madry(0.05)], ids=["fgsm", "pgd"])
def test_on_a_linear_network_the_point_is_the_worst_there_is(loss: Fast | Madry) -> None:
    x, y = images()
    x = 0.2 + 0.6 * x
    model = linear()
    own = F.one_hot(y, 3).float().repeat_interleave(12, 1).view_as(x)
    worst = x + 0.05 * (1 - 2 * own)
    torch.testing.assert_close(loss(model, x, y, DRAWS), F.cross_entropy(model(worst), y, reduction="none"))


def test_trades_is_its_formula_and_with_beta_0_plain_cross_entropy() -> None:
    (x, y), model = images(), Spy().eval()
    plain = F.cross_entropy(model(x), y, reduction="none")
    model.asked.clear()
    none = Trades(0.1, beta=0.0)
    assert torch.equal(none(model, x, y, DRAWS), plain)
    assert len(model.asked) == none.passes == 1
    model.asked.clear()
    one, six = (Trades(0.1, beta=beta)(model, x, y, DRAWS) for beta in (1.0, 6.0))
    point = model.asked[-1][0]
    apart = F.kl_div(model(point).log_softmax(1), model(x).softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(one, plain + apart)
    torch.testing.assert_close(six, plain + 6 * apart)
    # the search climbed: a random point in the ball is nowhere as far
    random = x + 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) - 1)
    noise = F.kl_div(model(random.clamp(0, 1)).log_softmax(1), model(x).softmax(1), reduction="none").sum(1)
    assert apart.detach().mean() > 3 * noise.detach().mean()


def test_trades_learns_where_probabilities_underflow() -> None:
    x, y = images()
    model = linear()
    with torch.no_grad():
        model[1].weight.mul_(100)
    assert bool((model(x).softmax(1) == 0).any())
    Trades(0.01)(model, x, y, DRAWS).mean().backward()
    assert bool(model[1].weight.grad.isfinite().all())


def test_an_ensemble_takes_turns_and_leaves_the_others_alone() -> None:
    (x, y), model, loss = images(), Spy().train(), Ensemble(0.1, (surrogate(5), surrogate(6)))
    others: list[Any] = [one.module for one in loss.surrogates]
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in others]
    turns = [0, 0, 0]
    for batch in range(30):
        for spy in (model, *others):
            spy.asked.clear()
        loss(model, x, y, DRAWS.fold(batch)).mean().backward()
        looked = [sum(held for _, _, held in spy.asked) for spy in (model, *others)]
        assert sorted(looked) == [0, 0, 1]
        turns[looked.index(1)] += 1
    assert min(turns) > 3
    for spy, state in zip(others, before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in spy.state_dict().items())
        assert all(parameter.grad is None for parameter in spy.parameters())
        assert not spy.training
    assert "spy-5" in repr(loss)
    assert "Conv2d" not in repr(loss)
    assert loss == Ensemble(0.1, (surrogate(5), surrogate(6)))
    assert loss != Ensemble(0.1, (surrogate(5),))


def test_half_of_an_ensembles_loss_is_on_the_image() -> None:
    (x, y), model = images(), linear()
    x = 0.2 + 0.6 * x
    # both networks are the same, so the point is known whoever's turn it is
    value = Ensemble(0.05, (Surrogate("itself", "0", linear()),))(model, x, y, DRAWS)
    own = F.one_hot(y, 3).float().repeat_interleave(12, 1).view_as(x)
    ends = [F.cross_entropy(model(z), y, reduction="none") for z in (x, x + 0.05 * (1 - 2 * own))]
    torch.testing.assert_close(value, (ends[0] + ends[1]) / 2)


def test_a_warm_up_grows_the_budget() -> None:
    loss = Madry(0.2, warmup=0.5)
    assert [loss.during(share).eps for share in (0, 0.1, 0.25, 0.475, 0.5, 1)] == pytest.approx(
        [0.01, 0.05, 0.11, 0.2, 0.2, 0.2]
    )
    assert Madry(0.2).during(0.0) == Madry(0.2)
    for other in (Fast(0.2, warmup=0.5), Trades(0.2, warmup=0.5), Ensemble(0.2, (surrogate(),), warmup=0.5)):
        assert other.during(0.1).eps == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Madry(0.0), "eps is 0.0, expected a size above 0"),
        (lambda: Fast(float("nan")), "eps is nan"),
        (lambda: Madry(0.1, norm="l0"), "norm is 'l0'; adversarial training works in linf and l2"),
        (lambda: Madry(0.1, steps=0), "steps is 0"),
        (lambda: Trades(0.1, step_size=0.0), "step_size is 0.0 budgets"),
        (lambda: Fast(0.1, step_size=float("inf")), "step_size is inf budgets"),
        (lambda: Trades(0.1, beta=-1.0), "beta is -1.0"),
        (lambda: Trades(0.1, warmup=1.5), "warmup is 1.5, expected a share"),
        (lambda: Ensemble(0.1, ()), "name one or more"),
        (lambda: adversarial_loss("fgsm", eps=0.1, steps=7), "steps is 7, and fgsm training has eps, step_size"),
        (lambda: adversarial_loss("pgd", eps=0.1, beta=6.0), "beta is 6.0, and pgd training has"),
    ],
)
def test_what_no_training_can_use(make: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_methods_by_name() -> None:
    assert adversarial_loss("fgsm", eps=0.1, steps=None) == Fast(0.1)
    assert adversarial_loss("pgd", eps=0.1, steps=3, step_size=0.5) == Madry(0.1, 3, 0.5)
    assert adversarial_loss("trades", eps=0.1, beta=6.0) == Trades(0.1, beta=6.0)


def test_a_surrogate_that_cannot_answer() -> None:
    x, y = images()
    surrogate().check(x, y)
    with pytest.raises(BadInput, match=r"spy-5 cannot answer images of \[3, 6, 6\].*Name one for the images"):
        surrogate().check(x.expand(-1, 3, -1, -1), y)
    with pytest.raises(BadInput, match="spy-5 has 3 classes, and a label is 3"):
        surrogate().check(x, y + 1)


def stripes(count: int, seed: int) -> InMemory:
    """Return images in which a bright half tells the class, by a distance of 0.25."""
    x = 0.5 * torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(count) % 2
    x[y == 0, :, :, :3] += 0.5
    x[y == 1, :, :, 3:] += 0.5
    return InMemory(x, y)


def settings(loss: Any) -> FitSettings:
    return FitSettings(
        epochs=4, batch=40, learning_rate=0.02, loss=loss, schedule="triangular", probe=Probe(0.2, count=80)
    )


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(96, 2)
    )


@pytest.mark.parametrize(
    "loss",
    [
        Fast(0.2, warmup=0.3),
        Madry(0.2, 3, 0.5, warmup=0.3),
        Trades(0.2, 3, 0.5, beta=3.0),
        Ensemble(0.2, (Surrogate("linear", "0", nn.Sequential(nn.Flatten(), nn.Linear(36, 2))),)),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path: Path, loss: Any) -> None:
    def train(folder: Path, on_progress: Any = lambda progress: None) -> dict[str, Tensor]:
        module = fresh()
        fit(module, stripes(160, 0), stripes(80, 1), settings(loss), folder, on_progress)
        return module.state_dict()

    class Interrupt(Exception):
        pass

    def stop(progress: FitProgress) -> None:
        if (progress.epoch, progress.batch) == (3, 2):
            raise Interrupt

    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupt):
        train(tmp_path / "part", stop)
    resumed = train(tmp_path / "part")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def tempting(count: int, seed: int) -> InMemory:
    """Return images with a bright or dark column, right in nine of ten, and faint pixels that are always right."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    side = (2 * y - 1).float()[:, None]
    strong = side * (1 - 2 * (torch.rand(count, 1, generator=generator) < 0.1).float())
    x = 0.5 + 0.08 * side.expand(count, 36) + 0.1 * (torch.rand(count, 36, generator=generator) - 0.5)
    x[:, :6] = 0.5 + 0.25 * strong
    return InMemory(x.view(count, 1, 6, 6), y)


def test_training_against_an_attack_gives_up_what_the_attack_can_turn(tmp_path: Path) -> None:
    accuracy, robust, held_out = {}, {}, tempting(200, 1)
    for name, loss in (("plain", CrossEntropy()), ("pgd", Madry(0.1, 5, 0.4))):
        given = FitSettings(epochs=10, batch=40, learning_rate=0.01, loss=loss)
        torch.manual_seed(0)
        network = Normalized(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), (0.5,), (0.25,))
        log = fit(network, tempting(400, 0), held_out, given, tmp_path / name)
        accuracy[name] = log.epochs[-1].validation_accuracy
        robust[name] = Probe(0.1)(network, held_out, 0).robust or 0.0
    assert accuracy["plain"] > 0.99
    assert robust["plain"] < 0.5
    assert 0.85 < robust["pgd"] <= accuracy["pgd"] < 0.97
