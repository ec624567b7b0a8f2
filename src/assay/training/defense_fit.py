"""What a chain of defences needs is fitted, from the innermost outwards: statistics, weights, and frozen thresholds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from assay.core.draws import Draws, drawing
from assay.core.errors import BadInput
from assay.core.held import frozen, set_mode
from assay.core.signals import signals_of
from assay.data import Data, image_digest, load_data
from assay.defenses.chain import SEPARATOR, Step, parse_chain, passes_of, split_spec, unfitted, written_chain
from assay.defenses.fitted import Fitted, Threshold, chosen_threshold, read_fitted, write_fitted
from assay.defenses.layers import (
    Detection,
    FromAttacked,
    FromStatistics,
    FromTraining,
    Refusing,
    Rejecting,
    Transformed,
)
from assay.files import write_atomically
from assay.models import Classifier, load_model
from assay.models.classifier import digest_of, update_with_state
from assay.models.defended import check_step, defended, shape_of, undefended, usual_file
from assay.models.seeded import seeded
from assay.statistics import clopper_pearson
from assay.training.dataset_view import Examples, FromData, InMemory, Kept
from assay.training.fit import FitProgress, FitSettings, fit

HELD_OUT = 500
LIMIT = 5_000
EPOCHS = 10
_BATCH = 64
_LEARNING_RATE = 1e-3
# rows whose scores are asked for again in other batches, and how far they may move
_ROWS, _MOST = 16, 1e-5


class FitStage(NamedTuple):
    """How far a fit is: step number `done` of `steps` is under way, `share` of it is done; `note` says what it does."""

    done: int
    steps: int
    share: float
    note: str


@dataclasses.dataclass(frozen=True)
class DefenseFit:
    """A finished fit: the defended classifier, the file, and whether it was there already."""

    classifier: Classifier
    path: Path
    known: bool

    def spec(self, *, named: bool = False) -> str:
        """Return how the model is written from now on; `named` says where the file lies."""
        steps = list(self.classifier.defenses)
        if named:
            at = next(i for i, step in enumerate(steps) if step.needs_fit)
            steps[at] = dataclasses.replace(steps[at], options={**steps[at].options, "file": str(self.path)})
        return f"{undefended(self.classifier).spec}{SEPARATOR}{written_chain(steps)}"

    @property
    def intervals(self) -> dict[int, tuple[float, float]]:
        """The 95 % interval of the share of clean images that each threshold refuses, by the number of its step."""
        fitted = self.classifier.fitted
        assert fitted is not None, "a fit was made"
        return {at: false_alarms(one) for at, one in fitted.thresholds.items()}


def false_alarms(threshold: Threshold) -> tuple[float, float]:
    """Return the 95 % interval of the share of clean images that are refused (Clopper and Pearson 1934)."""
    return clopper_pearson(int((threshold.scores > threshold.value).sum()), threshold.n)


def fit_defense(  # shape: one keyword for each flag of the command
    model: Any,
    chain: str,
    data: Any,
    *,
    held_out: int | None = None,
    limit: int | None = LIMIT,
    out: str | Path | None = None,
    epochs: int = EPOCHS,
    seed: int = 0,
    on_progress: Callable[[FitStage], None] = lambda stage: None,
) -> DefenseFit:
    """Fit the defences of `chain` around a model (whatever `load_model` takes) on training data, and keep the result.

    Use training data only: no image that something was fitted or a threshold chosen on can say how good it is. At most
    `limit` images are taken, evenly over the classes (None for all); `held_out` of them (500, or a fifth of few) choose
    the thresholds and nothing else. The file is `out`, or lies where the chain's spec finds it by itself. The same call
    goes on where it was interrupted, and does nothing where it was done. Networks train for `epochs` epochs.

    Raises `BadInput` for a chain that has nothing to fit or does not fit the model, for too few images, for scores that
    are all equal or not finite, and for a detector whose scores depend on the other images of a batch.
    """
    bare, steps = _asked(model, chain, named=out is not None)
    images, taken = _images(data, bare, steps, held_out, limit, seed)
    path = Path(out) if out is not None else usual_file(bare.digest, steps)
    told = {
        "data": images.source, "fingerprint": images.fingerprint, "images": len(images), "held_out": taken,
        "seed": seed, "epochs": epochs, "versions": [step.entry.version for step in steps],
    }  # fmt: skip
    if path.exists():
        there = _there(path, steps, bare, named=out is not None)
        if there is not None and there.told == told:
            return DefenseFit(defended(bare, written_chain(steps), there), path, True)
    rest, clean = _parts(images, steps, taken, bare, seed)
    work = _Work(bare, steps, rest, clean, FitSettings(epochs=epochs, batch=_BATCH, learning_rate=_LEARNING_RATE,
                 seed=seed, schedule="triangular"), _folder(path, told), on_progress)  # fmt: skip
    with _as_asked(bare):
        tensors, thresholds = work.done()
    digests = frozenset(image_digest(clean.batch(torch.tensor([at]))[0][0]) for at in range(len(clean)))
    fitted = Fitted(written_chain(steps, file=False), bare.digest, thresholds, tensors, digests, told)
    write_fitted(fitted, path)
    shutil.rmtree(work.folder, ignore_errors=True)
    return DefenseFit(defended(bare, written_chain(steps), fitted), path, False)


def _asked(model: Any, chain: str, *, named: bool) -> tuple[Classifier, tuple[Step, ...]]:
    inner: tuple[Step, ...] = ()
    if isinstance(model, str):
        model, inner = split_spec(model)
    classifier = model if isinstance(model, Classifier) else load_model(model)
    steps = (*(parse_chain(chain) if chain else ()), *inner, *classifier.defenses)
    bare = undefended(classifier)
    bare = bare if bare.digest else dataclasses.replace(bare, digest=digest_of(bare))
    if not any(step.needs_fit for step in steps):
        raise BadInput(
            f"Nothing has to be fitted for {written_chain(steps) or 'a model without defences'}. Use it as it is, or "
            "leave out a threshold to have it chosen, such as max-softmax."
        )
    for step in steps:
        check_step(step, bare)
        if step.options.get("file") and not named:
            raise BadInput(
                f"{step.written()} names a fit. To make one, leave file out and fit with --out {step.options['file']}."
            )
    passes_of(steps, shape_of(bare))
    return bare, steps


def _images(
    data: Any, bare: Classifier, steps: tuple[Step, ...], held_out: int | None, limit: int | None, seed: int
) -> tuple[Data, int]:
    """Return the images to fit on, and how many of them are held out for thresholds."""
    images = load_data(data, model=bare, sample=limit, seed=seed)
    learns, needed = any(step.entry.fitted for step in steps), any(map(_chooses, steps))
    if held_out is None:
        held_out = min(HELD_OUT, max(1, len(images) // 5) if learns else len(images)) if needed else 0
    elif not needed:
        raise BadInput(f"{held_out} images to be held out, and {written_chain(steps)} has no threshold to choose.")
    if held_out < needed or held_out > len(images) - learns:
        left = " and at least 1 to learn from" if learns else ""
        raise BadInput(
            f"{held_out} images to be held out for thresholds, of {len(images)} in {images.source}; expected at least 1"
            f"{left}. Give more images, or hold out fewer."
        )
    return images, held_out


def _parts(images: Data, steps: tuple[Step, ...], taken: int, bare: Classifier, seed: int) -> tuple[Examples, FromData]:
    """Return the examples to learn from, and those held out."""

    def part(which: str) -> Data:
        return load_data(images, model=bare, part=f"{which} {taken}", seed=seed)

    if taken == len(images) or not taken:
        rest, clean = images, images
    else:
        rest, clean = part("rest"), part("held-out")
    return Kept(FromData(rest, 0, len(rest))), FromData(clean, 0, taken)


def _folder(path: Path, told: dict[str, Any]) -> Path:
    """Return where an interrupted fit lies: another one, under another seed or data, is no hindrance."""
    name = hashlib.blake2b(repr(sorted(told.items())).encode(), digest_size=4).hexdigest()
    return path.with_name(f"{path.stem}.{name}.training")


def _there(path: Path, steps: tuple[Step, ...], bare: Classifier, *, named: bool) -> Fitted | None:
    try:
        return read_fitted(path, written_chain(steps, file=False), bare.digest, named=named)
    except BadInput as error:
        if named:
            raise BadInput(f"{path} is there already, and is not overwritten. Name another file. ({error})") from error
        return None


def _chooses(step: Step) -> bool:
    return step.entry.detects and step.options.get("threshold") is None


@contextlib.contextmanager
def _as_asked(bare: Classifier) -> Iterator[None]:
    """Show the network images in its own precision, as a look does."""
    precision = bare.precision
    hook = bare.module.register_forward_pre_hook(lambda _, given: (given[0].to(precision), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


@dataclasses.dataclass(frozen=True)
class _Work:
    """The fit of a chain: what there is to fit, on what, and where interrupted trainings lie."""

    bare: Classifier
    steps: tuple[Step, ...]
    rest: Examples
    clean: FromData
    settings: FitSettings
    folder: Path
    on_progress: Callable[[FitStage], None]

    def done(self) -> tuple[dict[str, Tensor], dict[int, Threshold]]:
        """Return the tensors and thresholds of all steps, by their numbers."""
        bare = self.bare
        module: nn.Module = Refusing(bare.module) if bare.rejects else bare.module
        tensors: dict[str, Tensor] = {}
        thresholds: dict[int, Threshold] = {}
        for at in reversed(range(len(self.steps))):
            step, inner = self.steps[at], module
            made = unfitted(step, inner)
            part = made.step if isinstance(made, Transformed) else made
            with frozen(inner), _apart(part):
                self._learn(at, part, inner, inner if step.entry.detects else made)
                tensors |= {f"{at}.{name}": value.detach().clone() for name, value in part.state_dict().items()}
                value, scale = step.options.get("threshold"), 1.0
                if step.entry.detects and value is None:
                    thresholds[at] = self._threshold(at, part, inner)
                    value, scale = thresholds[at].value, thresholds[at].scale
            module = Rejecting(part, inner, float(value), scale) if value is not None else made
            set_mode(module.to(bare.device), False)
        return tensors, thresholds

    def _learn(self, at: int, part: nn.Module, inner: nn.Module, answering: nn.Module) -> None:
        step, settings = self.steps[at], self.settings
        if isinstance(part, FromStatistics):
            self._say(at, 0.0, f"statistics of {len(self.rest):,} images")
            with seeded(settings.seed):
                part.fit(_Walk(self.rest, settings.seed, self.bare.device), inner)
        elif isinstance(part, FromTraining):
            folder = self.folder / f"{len(self.steps) - at} {step.name}"
            x, y = (one.to(self.bare.device) for one in self.rest.batch(torch.arange(min(_BATCH, len(self.rest)))))
            with seeded(settings.seed):
                part.begin(x, self._classes(inner, x[:1]))
                part.to(self.bare.device)
                # layers that do not know their sizes yet learn them here
                part.loss(x, y, inner)
            learned = self._with_attacked(at, part, inner, folder) if isinstance(part, FromAttacked) else self.rest
            check = min(HELD_OUT, max(1, len(learned) // 10))
            learn = _Part(learned, 0, max(1, len(learned) - check)), _Part(learned, len(learned) - check, check)
            loss = _PartLoss(step.written(file=False), _digest(inner), inner)
            learner = _Learner(part, answering)

            def show(now: FitProgress) -> None:
                share = (now.epoch - 1 + now.batch / now.batches) / now.epochs
                self._say(at, share, f"epoch {now.epoch} of {now.epochs}, loss {now.loss:.3f}")

            fit(learner, *learn, dataclasses.replace(settings, loss=loss), folder, show)
            part.requires_grad_(False)

    def _threshold(self, at: int, part: nn.Module, inner: nn.Module) -> Threshold:
        step, clean = self.steps[at], self.clean
        self._say(at, 1.0, f"a threshold on {len(clean):,} held-out images")
        draws = Draws.of(clean.data.ids[: len(clean)], self.settings.seed).fold("threshold")
        scores, margins = [], []
        for rows in torch.split(torch.arange(len(clean)), _BATCH):
            x = clean.batch(rows)[0].to(self.bare.device)
            seen = _asked_of(part, inner, x, draws.take(rows))
            scores.append(seen.score.float().cpu())
            top = seen.inside.logits.float().topk(2, 1).values.cpu()
            margins.append(top[:, 0] - top[:, 1])
            if not int(rows[0]):
                _check_rows(step.name, part, inner, x[:_ROWS], draws.take(rows[:_ROWS]))
        return _chosen(step, torch.cat(scores), torch.cat(margins))

    def _with_attacked(self, at: int, part: FromAttacked, inner: nn.Module, folder: Path) -> Examples:
        """Return what a detector learns from, made once: 8-bit images, lest it learn whether values are whole."""
        file = folder / "examples.safetensors"
        if not file.is_file():
            images, targets, done = [], [], 0
            with seeded(self.settings.seed):
                for x, y in _Walk(self.rest, self.settings.seed, self.bare.device):
                    self._say(at, 0.0, f"attacked images, {done:,} of {len(self.rest):,}")
                    made, wanted = part.examples(x, y, inner)
                    images.append((made * 255).round().to(torch.uint8).cpu())
                    targets.append(wanted.cpu())
                    done += len(x)
            found = {"images": torch.cat(images), "targets": torch.cat(targets)}
            if len(found["targets"]) == len(self.rest):
                raise BadInput(
                    f"No attack fooled the network on {len(self.rest)} training images: give "
                    f"{self.steps[at].name} a larger size=."
                )
            write_atomically(file, save(found))
        return InMemory(**load(file.read_bytes()))

    def _classes(self, inner: nn.Module, x: Tensor) -> int:
        with torch.no_grad():
            return signals_of(inner, x).logits.shape[1]

    def _say(self, at: int, share: float, note: str) -> None:
        done = len(self.steps) - 1 - at
        self.on_progress(FitStage(done, len(self.steps), share, f"{self.steps[at].name}: {note}"))


def _chosen(step: Step, scores: Tensor, margins: Tensor) -> Threshold:
    bad = int((~scores.isfinite()).sum())
    if bad:
        raise BadInput(
            f"{step.name} gives NaN or infinite scores to {bad} of {len(scores)} held-out images: no threshold can be "
            "chosen. Look for a division by zero or an overflow in what it computes."
        )
    if len(scores) > 1 and bool((scores == scores[0]).all()):
        raise BadInput(
            f"{step.name} gives all {len(scores)} held-out images the score {float(scores[0]):g}: it sees nothing in "
            "this model (logits that are always the same, squeezers that change nothing). Take another detector."
        )
    ordered = scores.sort().values
    low, high = (float(ordered[int(share * (len(ordered) - 1))]) for share in (0.25, 0.75))
    spread = high - low or float(ordered[-1] - ordered[0]) or 1.0
    fpr = float(step.settings["fpr"])
    return Threshold(chosen_threshold(scores, fpr), float(margins.median()) / spread or 1.0, fpr, ordered)


def _asked_of(part: nn.Module, inner: nn.Module, x: Tensor, draws: Draws) -> Detection:
    draws = dataclasses.replace(draws, ids=draws.ids.to(x.device))
    with torch.no_grad(), drawing(draws):
        return part(x, inner)  # type: ignore[no-any-return]  # what a module returns is untyped


def _check_rows(name: str, part: nn.Module, inner: nn.Module, x: Tensor, draws: Draws) -> None:
    """Ask about the same images in other batches. Raises `BadInput` where a score depends on its neighbours."""
    whole = _asked_of(part, inner, x, draws).score
    everyone = torch.arange(len(x))
    for rows in (everyone.flip(0), *torch.split(everyone[:3], 1), everyone[len(x) // 2 :]):
        again = _asked_of(part, inner, x[rows.to(x.device)], draws.take(rows)).score
        was = whole[rows.to(x.device)]
        moved = (again - was).abs() / was.abs().clamp_min(1)
        if not bool((moved <= _MOST).all() | (~was.isfinite()).any()):
            raise BadInput(
                f"{name} scores an image {float(again[moved.argmax()]):.6g} in one batch and "
                f"{float(was[moved.argmax()]):.6g} in another, beyond {_MOST:g}: a detector must not depend on the "
                "other images. Freeze what it compares with when it is fitted, and draw by core.draws.current alone."
            )


class _Walk:
    """Images and labels batch by batch, in one order drawn under the seed."""

    def __init__(self, examples: Examples, seed: int, device: torch.device) -> None:
        self.examples, self.seed, self.device = examples, seed, device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(self.seed))
        for rows in torch.split(order, _BATCH):
            x, y = self.examples.batch(rows)
            yield x.to(self.device), y.to(self.device)


@dataclasses.dataclass(frozen=True)
class _Part:
    """`count` examples from number `start` of their order under a seed: a part of each class, however they lie."""

    examples: Examples
    start: int
    count: int

    @property
    def fingerprint(self) -> str:
        return f"{self.examples.fingerprint} {self.start}+{self.count}"

    def __len__(self) -> int:
        return self.count

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(0))
        return self.examples.batch(order[self.start + positions])


class _Learner(nn.Module):
    """What is trained, as `fit` wants it: its answers are those of what stands around or behind it.

    `answering` is no part of it: it neither learns nor leaves eval mode.
    """

    def __init__(self, part: nn.Module, answering: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.answering = (answering,)

    def forward(self, x: Tensor) -> Tensor:
        return signals_of(self.answering[0], x).logits


@dataclasses.dataclass(frozen=True)
class _PartLoss:
    """The loss that a step or detector states itself."""

    step: str
    around: str
    inner: nn.Module = dataclasses.field(repr=False)

    passes: ClassVar[int] = 1

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, draws: Draws, /) -> Tensor:
        part: Any = model.get_submodule("part")
        with drawing(dataclasses.replace(draws, ids=draws.ids.to(x.device))):
            lost: Tensor = part.loss(x, y, self.inner)
        return lost.expand(len(x))

    def during(self, share: float, /) -> _PartLoss:
        return self


def _digest(module: nn.Module) -> str:
    content = hashlib.blake2b(repr(module).encode(), digest_size=16)
    update_with_state(content, module)
    return content.hexdigest()


@contextlib.contextmanager
def _apart(part: nn.Module) -> Iterator[None]:
    """Keep what a layer stands around out of its parameters and modes while it learns."""
    inner = part._modules.pop("inner", None)
    if inner is not None:
        part.__dict__["inner"] = inner
    try:
        yield
    finally:
        if inner is not None:
            del part.__dict__["inner"]
            part._modules["inner"] = inner
