"""One plain training loop, which continues after an interruption with the same result as without it.

Everything random in an epoch (order, dropout, a loss's draws) is seeded by (seed, epoch), and a checkpoint is
written after every epoch, so an interrupted training repeats at most the epoch it was in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from assay.core.draws import Draws
from assay.core.errors import AssayError, BadInput
from assay.models.classifier import Classifier, update_with_state
from assay.models.seeded import seeded
from assay.training.checkpoint import Checkpoint
from assay.training.dataset_view import Examples
from assay.training.losses import CrossEntropy, Loss
from assay.training.robustness_probe import EpochProbe, Probed, collapse

SCHEDULES = ("plateau", "triangular")
_PEAK = 0.3


class TrainingFailed(AssayError):
    """A training that cannot go on, because its loss is no longer a number."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """What a training does; the defaults are those of Sen et al. 2023 for MNIST, at batch 64.

    Adam with `learning_rate` and `betas`. On the schedule `plateau` the rate is multiplied by `factor` once the
    validation loss has not fallen for more than `patience` epochs; on `triangular` it rises to `learning_rate` over
    the first 30 % of the training and falls to zero over the rest (Smith 2017). `probe` measures robust or certified
    accuracy after every epoch, and ends a training that collapses.
    """

    epochs: int = 10
    batch: int = 64
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    factor: float = 0.1
    patience: int = 3
    seed: int = 0
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    schedule: str = "plateau"
    probe: EpochProbe | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; expected a whole number of at least 1.")
        if self.schedule not in SCHEDULES:
            raise BadInput(f"schedule is {self.schedule!r}; expected {' or '.join(SCHEDULES)}.")
        if not 0 < self.learning_rate < math.inf:
            raise BadInput(f"learning_rate is {self.learning_rate}; expected a positive number such as 1e-4.")


@dataclasses.dataclass(frozen=True)
class FitProgress:
    """How far a training is: batch `batch` of `batches` in epoch `epoch` of `epochs` (all from 1)."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float


@dataclasses.dataclass(frozen=True)
class EpochLog:
    """One finished epoch: mean losses, validation accuracy (a fraction), the rate at its end, and its wall time.

    Where the settings have a probe, also the accuracy that its attack and one step leave, or that its bounds prove.
    `stopped` says why training ended with this epoch, whose weights were dropped for those of the epoch before.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    robust_accuracy: float | None = None
    one_step_accuracy: float | None = None
    certified_accuracy: float | None = None
    stopped: str = ""


@dataclasses.dataclass(frozen=True)
class FitLog:
    """The finished epochs of a training, in order."""

    epochs: tuple[EpochLog, ...]

    @property
    def stopped(self) -> str:
        """Why the training ended early; nothing where it did not."""
        return self.epochs[-1].stopped

    @property
    def kept(self) -> EpochLog:
        """The epoch whose weights the training ended with."""
        return self.epochs[-2 if self.stopped else -1]

    @property
    def seconds(self) -> float:
        """The wall time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)


def fit(
    model: nn.Module | Classifier,
    train: Examples,
    validation: Examples,
    settings: FitSettings,
    checkpoint_dir: Path,
    on_progress: Callable[[FitProgress], None] = lambda progress: None,
) -> FitLog:
    """Train `model` in place and return the log; `checkpoint_dir` receives a checkpoint and `log.jsonl`.

    When `checkpoint_dir` holds a checkpoint of this training, it goes on from there; one of another training
    raises `BadInput`, as does one of a classifier whose code has been edited since. Raises `TrainingFailed` when a
    loss is not finite. A training that the settings' probe sees collapse ends with the weights of the epoch before. The
    model is left in eval mode.
    """
    training = _identity(model, train, validation, settings)
    model = model.module if isinstance(model, Classifier) else model
    model.to(memory_format=torch.channels_last)
    optimizer = Adam(model.parameters(), lr=settings.learning_rate, betas=settings.betas)
    scheduler = ReduceLROnPlateau(optimizer, "min", factor=settings.factor, patience=settings.patience)
    checkpoint = Checkpoint(checkpoint_dir, {"model": model, "optimizer": optimizer, "scheduler": scheduler}, training)
    log = [EpochLog(**row) for row in checkpoint.restore()]
    while len(log) < settings.epochs and not (log and log[-1].stopped):
        epoch, began = len(log) + 1, time.perf_counter()
        train_loss = _train_epoch(model, optimizer, train, settings, epoch, on_progress)
        validation_loss, accuracy = validate(model, validation, settings)
        rate = optimizer.param_groups[0]["lr"]
        if settings.schedule == "plateau":
            scheduler.step(validation_loss)
        probed = settings.probe(model, validation, settings.seed) if settings.probe else Probed()
        row = EpochLog(epoch, train_loss, validation_loss, accuracy, rate, time.perf_counter() - began, *probed)
        if why := collapse(log, row):
            checkpoint.restore()  # the weights of the last good epoch
            row = dataclasses.replace(row, stopped=why)
        log.append(row)
        checkpoint.save([dataclasses.asdict(row) for row in log])
    model.eval()
    return FitLog(tuple(log))


def validate(model: nn.Module, examples: Examples, settings: FitSettings) -> tuple[float, float]:
    """Return the mean loss and the accuracy (a fraction) of `model` in eval mode on `examples`."""
    model.eval()
    loss, right = 0.0, 0
    with torch.no_grad():
        # as many as fit, whatever a step takes; but a network of one image at a time takes no more here
        for at in torch.split(torch.arange(len(examples)), 1000 if settings.batch > 1 else 1):
            x, y = _on_device(model, *examples.batch(at))
            with _overheard(model, x) as logits:
                loss += float(settings.loss(model, x, y, _draws(at, settings, 0)).sum())
            answers = (logits[0] if logits else model(x)).argmax(1)
            right += int((answers == (y if y.ndim == 1 else y.argmax(1))).sum())
    return loss / len(examples), right / len(examples)


@contextlib.contextmanager
def _overheard(model: nn.Module, x: Tensor) -> Iterator[list[Tensor]]:
    """Collect the model's answers about `x`: most losses ask for them, and a second pass would cost as much."""
    heard: list[Tensor] = []

    def listen(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
        if given and given[0] is x:
            heard.append(out.clone())

    handle = model.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()


def _train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    examples: Examples,
    settings: FitSettings,
    epoch: int,
    on_progress: Callable[[FitProgress], None],
) -> float:
    """Take one pass over the examples in a fresh order and return the mean loss of its batches, as trained."""
    model.train()
    total = 0.0
    with seeded(_seed(settings.seed, epoch)):
        batches = torch.split(torch.randperm(len(examples)), settings.batch)
        for number, at in enumerate(batches, 1):
            x, y = _on_device(model, *examples.batch(at))
            share = (epoch - 1 + (number - 1) / len(batches)) / settings.epochs
            _set_rate(optimizer, settings, share)
            loss = settings.loss.during(share)(model, x, y, _draws(at, settings, epoch)).mean()
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingFailed(
                    f"The training loss is {value} in epoch {epoch}, batch {number}; expected a finite number. "
                    f"Try a learning rate below {settings.learning_rate:g}, and look for NaN in the images."
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value * len(at)
            on_progress(FitProgress(epoch, settings.epochs, number, len(batches), value))
    return total / len(examples)


def _set_rate(optimizer: Optimizer, settings: FitSettings, share: float) -> None:
    if settings.schedule == "triangular":
        rate = settings.learning_rate * min(share / _PEAK, (1 - share) / (1 - _PEAK))
        for group in optimizer.param_groups:
            group["lr"] = rate


def _on_device(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    return x.to(device, memory_format=torch.channels_last), y.to(device)


def _draws(positions: Tensor, settings: FitSettings, epoch: int) -> Draws:
    return Draws(positions).fold("fit").fold(settings.seed).fold(epoch)


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def _identity(
    model: nn.Module | Classifier, train: Examples, validation: Examples, settings: FitSettings
) -> dict[str, str]:
    """Return what must be equal for a checkpoint to be continued, in words for the error that says what is not."""
    start = hashlib.blake2b(digest_size=16)
    module, code = (model.module, model.code) if isinstance(model, Classifier) else (model, "")
    update_with_state(start, module)
    return {
        **({"code of the architecture": code} if code else {}),
        "settings": repr(settings),
        "initial weights": start.hexdigest(),
        "training data": train.fingerprint,
        "validation data": validation.fingerprint,
    }
