"""What the doctor looks at: a few images, and what the model answers about them in several ways."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from assay.core.answers import ONE_SCORE
from assay.core.draws import Draws
from assay.core.errors import AssayError, BadInput, ModelError
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, Observation, TorchOracle, frozen
from assay.core.signals import apart
from assay.data import Data, Sample, Unreadable, image_digest
from assay.data.class_orders import Renumbering
from assay.evaluation.cost import Speed
from assay.evaluation.held_out import check_apart
from assay.evaluation.one_score import check_one_score
from assay.models import Classifier
from assay.models.failures import model_error
from assay.preflight import asking
from assay.preflight.asking import Told
from assay.statistics import wilson

_FEW = 8
_COUNT_FROM_0 = "Count labels from 0, and check that data and model belong together."
_CONFIDENCE, _EXPLAINED = 0.99, 0.5
_DEAREST_BACKWARD = 2.0  # forwards; a first backward pass that takes longer is warming up


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Images `x` `[N, C, H, W]` with labels `y` `[N]`, and the model's logits `[N, K]` in eval mode.

    `refused` `[N]` (bool) are the images that the model refuses, which it gets wrong; the logits are those of its
    classes alone.
    `twice` are the logits of the first few images from two equal calls; `alone` those of the first by itself;
    `gradient` is the input gradient of the cross-entropy for the first few, or why there is none; `trained` are the
    logits in train mode, asked for only where those in eval mode are poor. `speed` is what the passes took.
    `one_score`: the model gives one score per image. `sigmoid`: what to say of it where it looks like a probability.
    `told` is what one that answers outside of torch, or can only be asked, showed besides.
    """

    x: Tensor
    y: Tensor
    logits: Tensor
    twice: tuple[Tensor, Tensor]
    alone: Tensor
    gradient: Tensor | str
    trained: Tensor | None
    speed: Speed
    unreadable: tuple[Unreadable, ...]
    one_score: bool = False
    sigmoid: str = ""
    refused: Tensor | None = None
    told: Told | None = None

    @property
    def right(self) -> int:
        """How many images the model gets right."""
        right = self.logits.argmax(1) == self.y
        return int((right if self.refused is None else right & ~self.refused).sum())

    @property
    def right_in_train_mode(self) -> int:
        """How many it gets right in train mode; 0 where that was not asked, or has no answer."""
        return 0 if self.trained is None else int((self.trained.argmax(1) == self.y).sum())


def gather(model: Classifier, data: Data, most: int, batch: int | None = None) -> Evidence:
    """Ask the model about up to `most` images, spread evenly over the data, at most `batch` per pass.

    Of an endpoint, which may bill each, 16 images are looked at, and it is asked about `asking.MOST_ASKED` rows at
    most. Raises `BadInput` for images that are no images in [0, 1], for labels the model does not have and where
    nothing can be read, and `ModelError` where the model does not answer like a classifier. The model is left as it
    was.
    """
    few, most = (asking.FEW, min(most, asking.IMAGES)) if model.outside else (_FEW, most)
    loaded = data.load(_spread(len(data), most))
    samples = [one for one in loaded if isinstance(one, Sample)]
    unreadable = tuple(one for one in loaded if isinstance(one, Unreadable))
    if not samples:
        raise BadInput(f"None of the {len(loaded)} images looked at could be read; the first: {unreadable[0].error}")
    check_apart(model, {one.id: image_digest(one.image) for one in samples} if model.fitted else {})
    x = _stacked(samples, model).to(model.device)
    y = torch.tensor([sample.label for sample in samples], device=model.device)
    oracle = model.oracle(batch)
    with _in_words(x, model), model.held():
        _check_labels(data, x, y, oracle)
        seen, forward = _timed(oracle, x, y, Access.SCORES)
        once, _ = _timed(oracle, x[:few], y[:few], Access.SCORES)
        with asking.again(oracle):
            again, forward_few = _timed(oracle, x[:few], y[:few], Access.SCORES)
            alone = _ask(oracle, x[:1], y[:1], Access.SCORES).logits
        gradient, both_few = _gradient(oracle, x[:few], y[:few])
        more = asking.gather(model, oracle, x, y) if asking.asked_only(model) else None
        told = apart(seen.logits, model.rejects)
        single = ONE_SCORE in oracle.told, _undeclared(oracle, x, told.logits, model.outputs)
    # what can only be asked has no other mode
    poor = int((seen.logits.argmax(1) == y).sum()) < 0.5 * len(y) and more is None
    trained = _in_train_mode(oracle, model.module, x, y) if poor else None
    # few images cost more each than many: the two passes are compared at the same few
    backward = forward * min(max(0.0, both_few / forward_few - 1), _DEAREST_BACKWARD)
    twice = (once.logits, again.logits)
    refused = None if told.excess is None else told.excess > 0
    # what an endpoint has answered before takes no time
    speed = Speed(max(forward, forward_few) if model.outside else forward, backward)
    return Evidence(x, y, told.logits, twice, alone, gradient, trained, speed, unreadable, *single, refused, more)


def _undeclared(oracle: TorchOracle, x: Tensor, logits: Tensor, outputs: str) -> str:
    try:
        check_one_score(oracle, x, logits, outputs)
    except BadInput as error:
        return str(error)
    return ""


def _spread(n: int, most: int) -> list[int]:
    if n == 0:
        raise BadInput("The data set holds no samples.")
    count = min(n, most)
    return [position * n // count for position in range(count)]


def _stacked(samples: list[Sample], model: Classifier) -> Tensor:
    shapes = {tuple(sample.image.shape) for sample in samples}
    if len(shapes) > 1:
        raise BadInput(
            f"The images have different shapes ({', '.join(str(list(shape)) for shape in sorted(shapes)[:3])}). "
            "Give the model a size so that they are resized and cropped (my.py:factory?size=224), stretched "
            "(?resize=224x224) or padded (?size=224&pad=black)."
        )
    (shape,) = shapes
    if model.input_shape is not None and shape != tuple(model.input_shape):
        raise BadInput(
            f"The images are {list(shape)}, the model takes {list(model.input_shape)} (channels, height, width). "
            "Use data of that kind, or a model for these images."
        )
    return torch.stack([sample.image for sample in samples])


def _check_labels(data: Data, x: Tensor, y: Tensor, oracle: TorchOracle) -> None:
    one = _ask(oracle, x[:1], torch.zeros_like(y[:1]), Access.SCORES).logits
    classes = apart(one, oracle.rejects).logits.shape[1]
    for name, label in zip(data.ids, data.labels, strict=True):
        if not 0 <= label < classes:
            raise BadInput(
                f"Sample {name!r} has label {label}, but the model has {classes} classes, 0 to {classes - 1}. "
                f"{_other_order(data, x, y, oracle) or _COUNT_FROM_0}"
            )


def _other_order(data: Data, x: Tensor, y: Tensor, oracle: TorchOracle) -> str:
    """Return the other numbering of the classes that the model's answers confirm, or ""."""
    if not data.renumberings:
        return ""
    logits = _ask(oracle, x, torch.zeros_like(y), Access.SCORES).logits
    return better_order(apart(logits, oracle.rejects).logits, y, data.renumberings)


def _ask(oracle: TorchOracle, x: Tensor, y: Tensor, access: Access) -> Observation:
    draws = Draws(torch.arange(len(x), device=x.device))
    return oracle.look(x, Untargeted(y), cross_entropy, access, draws)


def _gradient(oracle: TorchOracle, x: Tensor, y: Tensor) -> tuple[Tensor | str, float]:
    try:
        seen, seconds = _timed(oracle, x, y, Access.GRADIENT)
    except ModelError as error:
        # no matter to an attack that asks for none
        return str(error), 0.0
    assert seen.grad is not None, "the gradient was asked for"
    return seen.grad, seconds


def _timed(oracle: TorchOracle, x: Tensor, y: Tensor, access: Access) -> tuple[Observation, float]:
    began = time.perf_counter()
    seen = _ask(oracle, x, y, access)
    seen.loss.cpu()
    return seen, (time.perf_counter() - began) / len(x)


@contextlib.contextmanager
def _in_words(x: Tensor, model: Classifier) -> Iterator[None]:
    try:
        yield
    except AssayError:
        raise
    except Exception as error:
        told = f"{model_error(error, tuple(x.shape))} {_channels(x, model)}"
        raise ModelError(told.rstrip()) from error


def _channels(x: Tensor, model: Classifier) -> str:
    """Say how many channels the first convolution takes, where it is not what the images have."""
    convolutions = (part for part in model.module.modules() if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    first = next(convolutions, None)
    if not isinstance(first, nn.Conv2d) or first.in_channels == x.shape[1]:
        return ""
    wanted = first.in_channels
    told = f"Its first convolution takes {wanted} channel{'s' * (wanted > 1)} and the images have {x.shape[1]}."
    if re.search(rf"[?&]channels={wanted}(&|$)", model.spec):
        return f"{told} channels={wanted} is said already, but these data come as they are: give images of {wanted}."
    spec = re.sub(r"&?channels=[^&]*", "", model.spec).replace("?&", "?").rstrip("?")
    written = f"{spec}{'&' if '?' in spec else '?'}channels={wanted}" if ":" in spec else f"channels={wanted}"
    return f"{told} Say how many: {written}."


def _in_train_mode(oracle: TorchOracle, module: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
    """Return the logits in train mode, if it has any; batch-norm statistics and the random state are put back."""
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with frozen(module, training=True), torch.random.fork_rng():
            torch.manual_seed(0)
            return _ask(oracle, x, y, Access.SCORES).logits
    except Exception:
        # a model that cannot do this (batch norm on one image, say) is judged without it
        return None
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(kept[name])


def better_order(logits: Tensor, y: Tensor, orders: Sequence[Renumbering]) -> str:
    """Return which of the `orders` the answers explain clearly better than the labels `y`, and what to write; or ""."""
    answers = logits.argmax(1)
    right = int((answers == y).sum())
    best, most = None, right
    for one in orders:
        other = renumbered(y, one)
        if int(other.max()) >= logits.shape[1]:
            continue
        agreeing, moved = answers == other, other != y
        # only images whose label moves can tell the orders apart
        for_it, against = int((agreeing & moved).sum()), int(((answers == y) & moved).sum())
        explains = for_it >= _EXPLAINED * int(moved.sum())
        if explains and wilson(for_it, for_it + against, _CONFIDENCE)[0] > _EXPLAINED and int(agreeing.sum()) > most:
            best, most = one, int(agreeing.sum())
    if best is None:
        return ""
    new, old = (f"{100 * count / len(y):.1f} %" for count in (most, right))
    return f"The model agrees with {new} of labels {best.how}, and with {old} as they are: say {best.advice}"


def renumbered(y: Tensor, order: Renumbering) -> Tensor:
    """Return the labels that `order` gives to images of labels `y`."""
    new = dict(order.new_label)
    return torch.tensor([new[label] for label in y.tolist()], device=y.device)
