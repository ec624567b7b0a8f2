"""LiteRT (TFLite) files (extra `litert`): their own answers, quantised or not; gradients only from a twin."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import BadInput, ModelError, did_you_mean
from assay.core.oracle import Access
from assay.models.classifier import Classifier
from assay.models.deployed import Array, Deployed
from assay.models.failures import in_short
from assay.models.litert import MAGIC, Graph, Intake, Interpreted, Port, ScoreRule, imported, opened, step_at
from assay.models.model_file import check_there, digest_of_file
from assay.models.spec import Options, Request, sized, stated_range

_LAYOUTS = {"nhwc": "last", "nchw": "first"}
_ANY_SIDE, _PROBES = 224, 4
_SUM = 1e-3
_A_BYTE = 1 / 32
"""A factor up to this one brings bytes, 0 to 255, to a network's range."""
_BOUNDED = frozenset({"RELU", "RELU6", "TANH", "ELU", "LEAKY_RELU", "HARD_SWISH"})
_LONGEST = 1_000_000

_SCORES = "A TFLite file gives scores. Gradients are those of another network, named with ?twin=, or of a surrogate."
_SMALL = (
    "The weights of the first convolution are as small as those of a network that takes images from 0 to 255, whose "
    "rescaling was merged into them: if it is wrong about most images, state ?range=255."
)
_SATURATES = (
    "The file ends with probabilities: their logarithm is the score. Where one is rounded to 0 nothing tells how far "
    "it is from more, and attacks by scores meet plateaus."
)
_LABELS = (
    "Every class has a sigmoid of its own; their log-odds are the scores. Where an image may have several labels, say "
    "so to the goal: assay.MultiLabel."
)


def load(request: Request) -> Classifier:
    """Load `FILE`: scores from LiteRT's interpreter on the CPU.

    Settings: `output`, the name or number of one of several; `layout`, nhwc or nchw, where the shape does not tell;
    `range`, what white is to the network, 1 or 255.
    (`twin` is read by who calls.) Raises `BadInput` for a file that cannot be read, for operations that the
    interpreter does not have, and for inputs and outputs that are no images and no scores.
    """
    path = Path(request.name).expanduser()
    content = _content(path, request.spec)
    imported()
    interpreter = _interpreter(content, request)
    entry = _input(interpreter, request)
    exit_ = _output(interpreter, request)
    order, shape = _images(entry, request)
    graph = Graph.of(interpreter)
    given, notes = _given(entry, order, graph, interpreter, request)
    plain = Interpreted(content, entry, exit_, given, ScoreRule("logits"))
    values = _asked(plain, _probes(shape, request), exit_, request)
    ending, tensor = graph.ending(exit_.index)
    read, more = _read(ending, step_at(interpreter, tensor), values, request)
    options = request.options
    said = (exit_.index, dataclasses.astuple(given), dataclasses.astuple(read))
    return Classifier(
        Deployed(Interpreted(content, entry, exit_, given, read)),
        request.spec,
        input_shape=None if shape[1] is None or shape[2] is None else (shape[0], shape[1], shape[2]),
        mean=options.mean,
        std=options.std,
        preprocess=sized(options, shape[1], shape[2]).preprocess,
        classes=_labels(content, values.shape[1]),
        outputs="logits" if read.kind == "logits" or read.odds else "probabilities",
        channels=shape[0],
        notes=(*(() if "twin" in request.settings else (_SCORES,)), *notes, *more),
        access=Access.SCORES,
        identity=f"litert {digest_of_file(path)} {said}",
    )


def _content(path: Path, spec: str) -> bytes:
    check_there(path, spec)
    content = path.read_bytes()
    if content[4:8] != MAGIC:
        raise BadInput(
            f"{path} is no TFLite file: its bytes 5 to 8 are {content[4:8]!r}, expected {MAGIC!r}. Convert the model "
            "again, or name it by its own kind (`assay models` lists them)."
        )
    return content


def _interpreter(content: bytes, request: Request) -> Any:
    spec = request.spec
    try:
        interpreter = opened(content)
        _resize(interpreter, request)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _missing(spec, error) or BadInput(
            f"{spec!r} could not be read by LiteRT: {in_short(error)}. Copy or convert it again."
        ) from error
    return interpreter


def _missing(spec: str, error: Exception) -> BadInput | None:
    """Return what to say of a file that uses an operation which the interpreter lacks; None for any other error."""
    text = " ".join(str(error).split())
    if "Select TensorFlow op" in text or "Flex" in text:
        return BadInput(
            f"{spec!r} uses operations of TensorFlow itself, which LiteRT's interpreter does not have. Convert the "
            "model with built-in operations alone (tf.lite.OpsSet.TFLITE_BUILTINS), or wrap TensorFlow's interpreter "
            "in a function of your own, and name that: my.py:factory."
        )
    if "unresolved custom op" in text:
        name = text.partition("custom op:")[2].split(".")[0].strip() or "unknown"
        return BadInput(
            f"{spec!r} uses the custom operation {name}, which LiteRT's interpreter does not have. Wrap an interpreter "
            "that has it in a function of your own, and name that: my.py:factory."
        )
    return None


def _resize(interpreter: Any, request: Request) -> None:
    # open sides are 1 until somebody says more, which is too small for most networks
    ports = [Port.of(one) for one in interpreter.get_input_details()]
    if len(ports) == 1 and -1 in ports[0].shape[1:]:
        order, shape = _images(ports[0], request)
        high, wide = (side or _ANY_SIDE for side in shape[1:])
        sides = {"last": (high, wide, shape[0]), "first": (shape[0], high, wide), "none": (high, wide)}[order]
        interpreter.resize_tensor_input(ports[0].index, [max(1, ports[0].shape[0]), *sides])


def _input(interpreter: Any, request: Request) -> Port:
    ports = [Port.of(one) for one in interpreter.get_input_details()]
    if len(ports) != 1:
        shown = ", ".join(f"{one.name} {list(one.shape)}" for one in ports)
        raise BadInput(
            f"{request.spec!r} takes {len(ports)} inputs ({shown}), expected one, the images. Fix the others in a "
            "function of your own, and name that: my.py:factory."
        )
    (port,) = ports
    if not (port.whole or port.dtype in (np.float32, np.float16)):
        raise BadInput(
            f"{request.spec!r} takes {port.dtype.__name__}, expected float32, float16, uint8, int8 or int16. Wrap it "
            "in a function of your own that makes them of images, and name that: my.py:factory."
        )
    return port


def _output(interpreter: Any, request: Request) -> Port:
    ports = [Port.of(one) for one in interpreter.get_output_details()]
    names = [one.name for one in ports]
    wanted = request.settings.get("output")
    if wanted is None and len(ports) == 1:
        return ports[0]
    if wanted is not None and wanted in names:
        return ports[names.index(wanted)]
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(ports):
        return ports[int(wanted)]
    shown = ", ".join(f"{at}: {one.name} {list(one.shape)}" for at, one in enumerate(ports))
    what = f"has no output {wanted!r}" if wanted is not None else f"has {len(ports)} outputs, expected one"
    near = did_you_mean(wanted, names) if wanted is not None else " Name the one that answers: ?output=0."
    raise BadInput(f"{request.spec!r} {what}.{near} There are: {shown}.")


def _images(port: Port, request: Request) -> tuple[str, tuple[int, int | None, int | None]]:
    """Return where channels stand in the input, and (channels, height, width), None for a side that is open."""
    rest = [None if side < 0 else side for side in port.shape[1:]]
    layout = request.settings.get("layout")
    if layout is not None and layout.lower() not in _LAYOUTS:
        raise BadInput(f"layout is {layout!r} in {request.spec!r}; expected nhwc or nchw.")
    if len(rest) == 2:
        order, shape = "none", (1, rest[0], rest[1])
    elif len(rest) == 3:
        order = _LAYOUTS[layout.lower()] if layout else _order(rest, request)
        channels, sides = (rest[2], rest[:2]) if order == "last" else (rest[0], rest[1:])
        shape = (channels or request.options.channels, sides[0], sides[1])
    else:
        raise BadInput(
            f"{request.spec!r} takes {list(port.shape)}, expected images: [N, height, width, channels]. Put what turns "
            "images into its input into a function of your own, and name that: my.py:factory."
        )
    return order, _with_size(shape, request)


def _order(rest: list[int | None], request: Request) -> str:
    # channels stand last where both ends could be them, as is TensorFlow's own way
    if rest[2] in (1, 3, 4):
        return "last"
    if rest[0] in (1, 3, 4):
        return "first"
    raise BadInput(
        f"{request.spec!r} takes {rest}, which does not tell where the channels stand. State it: ?layout=nhwc or "
        "?layout=nchw."
    )


def _with_size(shape: tuple[int, int | None, int | None], request: Request) -> tuple[int, int | None, int | None]:
    options = request.options
    if options.channels not in (shape[0], Options().channels):
        raise BadInput(
            f"channels is {options.channels} in {request.spec!r}, but the file takes {shape[0]}. Leave it out."
        )
    sides = options.final_size
    if sides is None:
        return shape
    fixed = (shape[1] or sides[0], shape[2] or sides[1])
    if fixed != sides:
        raise BadInput(
            f"{request.spec!r} states a size of {sides[0]}x{sides[1]}, but the file takes {fixed[0]}x{fixed[1]}. Leave "
            "it out, or state how pictures come to it with resize, crop or pad."
        )
    return (shape[0], *sides)


def _given(port: Port, order: str, graph: Graph, interpreter: Any, request: Request) -> tuple[Intake, tuple[str, ...]]:
    """Return how images become the input, and what to say about that."""
    mean, std, told = request.options.mean, request.options.std, stated_range(request)
    if mean is not None and std is not None:
        if port.whole and not port.scale:
            raise BadInput(
                f"{request.spec!r} takes bytes that stand for nothing but themselves, so mean={mean} and std={std} "
                "cannot be told to it. Leave them out."
            )
        return Intake(order, mean=mean, std=std), ()
    if port.whole:
        return _of_whole_numbers(port, order, request) if told is None else (Intake(order, told), ())
    if told is not None:
        return Intake(order, told), ()
    factor, small = _first_factor(graph, interpreter, port)
    if factor:
        note = f"The file rescales bytes inside (by {factor:.4g}): it is given images from 0 to 255."
        return Intake(order, 255.0), (note,)
    return Intake(order), (_SMALL,) if small else ()


def _of_whole_numbers(port: Port, order: str, request: Request) -> tuple[Intake, tuple[str, ...]]:
    kind = port.dtype.__name__
    if not port.scale:
        if port.dtype is np.int16:
            raise BadInput(f"{request.spec!r} takes int16 without a scale, expected one, or uint8 or int8.")
        return Intake(order, as_bytes=True), (f"The input is {kind} without a scale: it is given the image's bytes.",)
    low, high = port.range
    said = f"The input is {kind}, which stands for {low:.3g} to {high:.3g}"
    if abs(low) < 0.05 and 0.9 < high < 1.1:
        return Intake(order), (f"{said}: images are rounded to its {port.scale:.4g}, ties to even.",)
    if abs(low) < 5 and high > 200:
        return Intake(order, 255.0), (f"{said}: it is given images from 0 to 255, rounded.",)
    if abs(low + 1) < 0.1 and abs(high - 1) < 0.1 and port.dtype is not np.int16:
        return Intake(order, as_bytes=True), (
            f"{said}: it is given the image's bytes, as from a camera. To quantise (x - 0.5) / 0.5 instead, as some "
            "programs do, state mean=0.5&std=0.5.",
        )
    raise BadInput(
        f"{request.spec!r} takes {kind}, which stands for {low:.3g} to {high:.3g}, and does not say how images come to "
        "it. State the normalisation that it was trained with, in units of [0, 1], such as "
        "?mean=0.485,0.456,0.406&std=0.229,0.224,0.225."
    )


def _first_factor(graph: Graph, interpreter: Any, port: Port) -> tuple[float, bool]:
    """Return what the first operation multiplies the input by where that brings bytes to a range, else 0.

    And whether it may do so out of sight: converters put such a factor into the weights of a first convolution.
    """
    first = graph.first(port.index)
    kind = None if first is None else first["op_name"]
    if first is None or kind not in ("MUL", "DIV", "CONV_2D"):
        return 0.0, False
    # what is computed, and the image, hold whatever lay in memory until the file is asked
    computed = {port.index, *(int(one) for operation in graph.operations for one in operation["outputs"])}
    for index in first["inputs"]:
        if int(index) in computed:
            continue
        try:
            value = np.asarray(interpreter.get_tensor(int(index)), dtype=np.float64)
        except (ValueError, RuntimeError):
            continue
        if kind == "CONV_2D" and value.ndim == 4:
            return 0.0, float(np.abs(value).max()) <= _A_BYTE
        if kind != "CONV_2D" and value.size == 1 and value.item():
            factor = abs(value.item() if kind == "MUL" else 1 / value.item())
            return (factor if factor <= _A_BYTE else 0.0), False
    return 0.0, False


def _probes(shape: tuple[int, int | None, int | None], request: Request) -> Array:
    high, wide = request.options.final_size or (_ANY_SIDE, _ANY_SIDE)
    drawn = np.random.default_rng(0).random((_PROBES, shape[0], shape[1] or high, shape[2] or wide), np.float32)
    return drawn * np.linspace(0.2, 1, _PROBES, dtype=np.float32).reshape(-1, 1, 1, 1)


def _asked(answer: Interpreted, probes: Array, port: Port, request: Request) -> Array:
    """Return the file's answers `[N, K]`, or raise `BadInput` where it gives none, or none of that form."""
    try:
        values = answer(probes)
    except ModelError as error:
        # some are found missing only when they are asked
        raise _missing(request.spec, error) or BadInput(f"{request.spec!r}: {error}") from error
    long = [side for side in port.shape[1:] if side != 1]
    if len(long) > 1:
        raise BadInput(
            f"{request.spec!r} answers {list(port.shape)}, expected class scores [N, K]. Name the output that holds "
            "them with ?output=, or wrap the file in a function of your own, and name that: my.py:factory."
        )
    return values


def _read(ending: str, step: float, values: Array, request: Request) -> tuple[ScoreRule, tuple[str, ...]]:
    """Return how the answers become scores, from the operation they come out of and from what they are."""
    threshold, several = request.options.threshold, values.shape[1] > 1
    if threshold is not None and several:
        raise BadInput(
            f"threshold is {threshold:g}, but {request.spec!r} gives {values.shape[1]} scores per image, expected one. "
            "Leave it out."
        )
    said = [_coarse(step)] if step else []
    far = max(_SUM, values.shape[1] * step / 2)
    summed = bool((values >= 0).all()) and bool((np.abs(values.sum(1) - 1) < far).all())
    if several and (ending == "SOFTMAX" or summed):
        return ScoreRule("softmax", step=step), tuple(said or [_SATURATES])
    if ending == "LOGISTIC":
        if threshold is not None and not 0 < threshold < 1:
            raise BadInput(f"threshold is {threshold:g}, expected a probability above 0 and below 1.")
        notes = (_LABELS,) if several else ()
        return ScoreRule("sigmoid", threshold, several, step), (*notes, *(said or [_SATURATES]))
    # a relu is most often part of the operation before it
    if ending in _BOUNDED or bool((values >= 0).all() and (values == 0).any()):
        said.append(
            "The answers are neither logits nor probabilities, as after a relu or another bounded function, and are "
            "attacked as they are. Where several are equal, the first class wins."
        )
    return ScoreRule("logits", threshold, step=step), tuple(said)


def _coarse(step: float) -> str:
    return (
        f"The file's answers are whole numbers times {step:.4g}: equal ones are frequent, and of those the first class "
        "wins. Attacks by scores meet plateaus and find less than there is; ?twin= names the float network that the "
        "file was made of, for attacks with gradients."
    )


def _labels(content: bytes, classes: int) -> tuple[str, ...] | None:
    """Return the labels that are packed behind the file, one a line, where there are as many as classes."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".txt") and entry.file_size < _LONGEST:
                lines = [one.strip() for one in archive.read(entry).decode("utf-8", "replace").splitlines()]
                named = tuple(one for one in lines if one)
                if len(named) == classes == len(set(named)):
                    return named
    return None
