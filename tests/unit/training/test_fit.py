from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.models import Classifier
from assay.training.dataset_view import Examples, InMemory
from assay.training.fit import EpochLog, FitLog, FitProgress, FitSettings, TrainingFailed, fit, validate
from assay.training.losses import CrossEntropy
from assay.training.robustness_probe import Probe, Probed

SETTINGS = FitSettings(epochs=4, batch=16, learning_rate=1e-2)


def examples(count: int = 80, seed: int = 0) -> InMemory:
    """Return images of which the brighter half is class 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 6, 6, generator=generator)
    labels = torch.arange(count) % 2
    images[labels == 1, :, :, 3:] += 1
    return InMemory(images / 2, labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2)
    )


def trained(
    folder: Path, settings: FitSettings = SETTINGS, on_progress: Any = lambda progress: None
) -> tuple[dict[str, Tensor], tuple[EpochLog, ...]]:
    module = network()
    log = fit(module, examples(), examples(40, 1), settings, folder, on_progress)
    return module.state_dict(), log.epochs


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def without_time(log: tuple[EpochLog, ...]) -> list[EpochLog]:
    return [dataclasses.replace(row, seconds=0.0) for row in log]


def test_it_learns_and_keeps_a_log(tmp_path: Path) -> None:
    state, log = trained(tmp_path)
    assert [row.epoch for row in log] == [1, 2, 3, 4]
    assert log[-1].validation_accuracy > 0.9
    assert log[-1].train_loss < log[0].train_loss
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        dataclasses.asdict(row) for row in log
    ]
    assert not same(state, network().state_dict())


def test_it_is_repeatable_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    first, log = trained(tmp_path / "a")
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    module = network()
    torch.random.set_rng_state(before)
    fit(module, examples(), examples(40, 1), SETTINGS, tmp_path / "b")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(module.state_dict(), first)
    other, _ = trained(tmp_path / "c", dataclasses.replace(SETTINGS, seed=1))
    assert not same(other, first)
    assert without_time(log) == without_time(trained(tmp_path / "a")[1])


def test_the_model_is_left_in_eval_mode(tmp_path: Path) -> None:
    module = network()
    fit(module, examples(), examples(40, 1), SETTINGS, tmp_path)
    assert not any(part.training for part in module.modules())


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("at", [(1, 1), (2, 1), (3, 5), (4, 2)])
def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path: Path, at: tuple[int, int]) -> None:
    whole, log = trained(tmp_path / "whole")

    def stop(progress: FitProgress) -> None:
        if (progress.epoch, progress.batch) == at:
            raise Interrupt

    with pytest.raises(Interrupt):
        trained(tmp_path / "part", on_progress=stop)
    resumed, resumed_log = trained(tmp_path / "part")
    assert same(resumed, whole)
    assert without_time(resumed_log) == without_time(log)


def test_kill_9_does_not_change_the_result(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole")
    code = (
        "import importlib.util, sys, time, pathlib\n"
        "spec = importlib.util.spec_from_file_location('room', sys.argv[1])\n"
        "room = importlib.util.module_from_spec(spec); sys.modules['room'] = room; spec.loader.exec_module(room)\n"
        "print('ready', flush=True)\n"
        "room.trained(pathlib.Path(sys.argv[2]), on_progress=lambda p: time.sleep(0.02))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", code, __file__, str(tmp_path / "part")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed, log = trained(tmp_path / "part")
    assert same(resumed, whole)
    assert len((tmp_path / "part" / "log.jsonl").read_text().splitlines()) == len(log) == 4


def test_a_finished_training_does_nothing(tmp_path: Path) -> None:
    trained(tmp_path)
    calls: list[FitProgress] = []
    trained(tmp_path, on_progress=calls.append)
    assert calls == []


def test_progress_counts_every_batch(tmp_path: Path) -> None:
    calls: list[FitProgress] = []
    trained(tmp_path, on_progress=calls.append)
    assert [(p.epoch, p.batch) for p in calls] == [(e, b) for e in range(1, 5) for b in range(1, 6)]
    assert {(p.epochs, p.batches) for p in calls} == {(4, 5)}


def test_the_rate_falls_when_the_validation_loss_does_not(tmp_path: Path) -> None:
    settings = FitSettings(epochs=5, batch=80, learning_rate=0.1, patience=1, loss=Constant())
    _, log = trained(tmp_path, settings)
    assert [row.learning_rate for row in log] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


class Steady:
    """What the losses of these tests share: one pass, the same throughout."""

    passes = 1

    def during(self, share: float, /) -> Any:
        return self


@dataclasses.dataclass(frozen=True)
class Constant(Steady):
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        return model(x)[:, 0] * 0 + 1


@dataclasses.dataclass(frozen=True)
class Noisy(Steady):
    """A loss with randomness of its own: it must get the same draws for the same samples and epoch."""

    seen: list[tuple[float, ...]] = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        noise = draws.uniform("noise", 1)[:, 0]
        self.seen.append(tuple(noise.tolist()))
        return CrossEntropy()(model, x + 0.1 * noise[:, None, None, None], y, draws)


def test_a_losss_draws_are_fresh_each_epoch_and_the_same_each_time(tmp_path: Path) -> None:
    runs = []
    for name in "ab":
        loss = Noisy()
        trained(tmp_path / name, dataclasses.replace(SETTINGS, loss=loss))
        runs.append(loss.seen)
    assert runs[0] == runs[1]
    values = [value for batch in runs[0] if len(batch) == 16 for value in batch]
    assert len(set(values)) == len(values) == 4 * 80


def test_a_loss_that_is_no_number_stops_with_the_fix(tmp_path: Path) -> None:
    bad = examples()
    bad.images[3] = float("nan")
    with pytest.raises(TrainingFailed, match=r"training loss is nan in epoch 1, batch \d.*rate below 0.01"):
        fit(network(), bad, examples(40, 1), SETTINGS, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": dataclasses.replace(SETTINGS, learning_rate=1e-3)}, "learning_rate=0.001"),
        ({"settings": dataclasses.replace(SETTINGS, loss=CrossEntropy(100.0))}, "temperature=100.0"),
        ({"train": examples(80, 5)}, "training data"),
        ({"validation": examples(40, 5)}, "validation data"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(36, 2))}, "initial weights"),
    ],
)
def test_the_checkpoint_of_another_training_is_not_continued(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    trained(tmp_path)
    given: dict[str, Any] = {
        "model": network(),
        "train": examples(),
        "validation": examples(40, 1),
        "settings": SETTINGS,
        "checkpoint_dir": tmp_path,
    }
    with pytest.raises(BadInput, match=rf"holds another training.*{says}.*Name another folder"):
        fit(**{**given, **change})


def test_a_classifier_whose_code_was_edited_is_not_continued(tmp_path: Path) -> None:
    def go_on(code: str) -> FitLog:
        return fit(Classifier(network(), code=code), examples(), examples(40, 1), SETTINGS, tmp_path)

    assert without_time(go_on("a").epochs) == without_time(go_on("a").epochs)
    with pytest.raises(BadInput, match=r"another training: \{'code of the architecture': 'a'\} there.*'b'\} here"):
        go_on("b")


def test_validation_is_in_eval_mode_and_counts_soft_labels() -> None:
    module = network().train()
    held = examples(40, 1)
    loss, accuracy = validate(module, held, SETTINGS)
    with torch.no_grad():
        logits = module.eval()(held.images)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, held.targets)), rel=1e-5)
    assert accuracy == int((logits.argmax(1) == held.targets).sum()) / 40
    soft = InMemory(held.images, nn.functional.one_hot(held.targets, 2).float())
    assert validate(module, soft, SETTINGS) == pytest.approx((loss, accuracy))


class Counting(nn.Module):
    """Two classes by brightness; counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        b = self.scale * (x.flatten(1).mean(1) - 0.4)
        return torch.stack([-b, b], 1)


@dataclasses.dataclass(frozen=True)
class Elsewhere(Steady):
    """A loss that never asks about the images themselves, and changes what it is given."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        return model(1 - x)[:, 0].mul_(0)


@pytest.mark.parametrize(("loss", "passes"), [(CrossEntropy(), 1), (Noisy(), 2), (Elsewhere(), 2)])
def test_validation_asks_again_only_where_the_loss_did_not(loss: Any, passes: int) -> None:
    module, held = Counting(), examples(40, 1)
    _, accuracy = validate(module, held, dataclasses.replace(SETTINGS, loss=loss))
    assert module.passes == passes
    with torch.no_grad():
        assert accuracy == int((module(held.images).argmax(1) == held.targets).sum()) / 40
    assert 0.5 < accuracy <= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [({"epochs": 0}, "epochs is 0"), ({"batch": -1}, "batch is -1"), ({"learning_rate": float("nan")}, "rate is nan")],
)
def test_settings_that_no_training_can_use(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        FitSettings(**change)


@pytest.mark.parametrize("schedule", ["triangle", ""])
def test_an_unknown_schedule(schedule: str) -> None:
    with pytest.raises(BadInput, match="expected plateau or triangular"):
        FitSettings(schedule=schedule)


@dataclasses.dataclass(frozen=True)
class Watched(Steady):
    """Cross-entropy that notes how far training was whenever it was asked for."""

    seen: list[float] = dataclasses.field(default_factory=list, repr=False)

    def during(self, share: float, /) -> Watched:
        self.seen.append(share)
        return self

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        return CrossEntropy()(model, x, y, draws)


def test_the_triangular_rate_rises_and_falls_with_the_share_done(tmp_path: Path) -> None:
    loss = Watched()
    settings = FitSettings(epochs=10, batch=80, learning_rate=0.1, schedule="triangular", loss=loss)
    _, log = trained(tmp_path, settings)
    assert loss.seen == pytest.approx([epoch / 10 for epoch in range(10)])
    rising, falling = [0.0, 1 / 3, 2 / 3, 1.0], [6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7]
    assert [row.learning_rate for row in log] == pytest.approx([0.1 * share for share in rising + falling])


@dataclasses.dataclass(frozen=True)
class Collapsing(Probe):
    """A probe that sees a collapse after the third epoch, whatever the network does."""

    readings: list[Probed] = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, model: nn.Module, examples: Examples, seed: int) -> Probed:
        return self.readings.pop(0)


def readings() -> list[Probed]:
    return [Probed(0.5, 0.6), Probed(0.6, 0.7), Probed(0.1, 0.9), Probed(0.1, 0.9)]


def test_a_collapse_ends_training_with_the_weights_of_the_epoch_before(tmp_path: Path) -> None:
    third: list[dict[str, Tensor]] = []
    module = network()

    def remember(progress: FitProgress) -> None:
        if (progress.epoch, progress.batch) == (3, 1) and not third:
            third.append({name: value.clone() for name, value in module.state_dict().items()})

    settings = dataclasses.replace(SETTINGS, probe=Collapsing(0.1, readings=readings()))
    log = fit(module, examples(), examples(40, 1), settings, tmp_path, remember)
    assert [row.epoch for row in log.epochs] == [1, 2, 3]
    assert log.kept == log.epochs[1]
    assert "Catastrophic overfitting in epoch 3" in log.stopped
    assert "The weights are those of epoch 2" in log.stopped
    # two epochs without a probe end with the same weights
    whole, _ = trained(tmp_path / "two", dataclasses.replace(SETTINGS, epochs=2))
    assert same(module.state_dict(), whole)
    assert not same(module.state_dict(), third[0])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [bool(row["stopped"]) for row in rows] == [False, False, True]


def test_a_training_that_collapsed_does_not_go_on(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, probe=Collapsing(0.1, readings=readings()))
    module, again, calls = network(), network(), []
    log = fit(module, examples(), examples(40, 1), settings, tmp_path)
    assert fit(again, examples(), examples(40, 1), settings, tmp_path, calls.append) == log
    assert calls == []
    assert same(module.state_dict(), again.state_dict())


def test_without_a_probe_nothing_is_measured_and_nothing_stops(tmp_path: Path) -> None:
    _, log = trained(tmp_path)
    assert {(row.robust_accuracy, row.one_step_accuracy, row.stopped) for row in log} == {(None, None, "")}
    assert FitLog(log).kept == log[-1]


def test_the_defaults_are_the_papers() -> None:
    assert FitSettings() == FitSettings(10, 64, 1e-4, (0.9, 0.999), 0.1, 3, 0, CrossEntropy(1.0))
