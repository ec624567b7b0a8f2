"""Programs that torch wrote for deployment: files of torch.export (`pt2:`), and TorchScript (`torchscript:`)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, BadInput, ModelError, did_you_mean
from assay.core.form import precision_of
from assay.core.held import set_mode
from assay.core.oracle import Access
from assay.models.classifier import Classifier
from assay.models.failures import in_short, model_error
from assay.models.foreign import EXPORTED, TORCHSCRIPT, is_safetensors, what_else
from assay.models.loaders import program_graph
from assay.models.loaders.python import described
from assay.models.model_file import digest_of_file, nearly
from assay.models.spec import Options, Request, sized
from assay.models.static_batch import StaticBatch, fixed_batch_note

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# sides that networks take, in the order in which a script that does not say its own is asked
_SIDES = (224, 32, 28, 64, 299, 384)
_UNBOUNDED = 1 << 30


class Program(nn.Module):
    """A compiled program as a module that owns its mode: one that was compiled for evaluation has no other.

    It is given images in the precision that it takes, by the name of its argument where it takes them so, and its
    scores are picked from what it answers.
    """

    def __init__(
        self, program: nn.Module, dtype: torch.dtype | None = None, *, keyword: str = "", output: str = ""
    ) -> None:
        super().__init__()
        self.program = program
        self.dtype = dtype
        self.keyword = keyword
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of images `[N, C, H, W]`. Raises `ModelError` where several answers could be meant."""
        given = x if self.dtype is None else x.to(self.dtype)
        answer = self.program(**{self.keyword: given}) if self.keyword else self.program(given)
        return scores_in(answer, self.output)

    def train(self, mode: bool = True) -> Program:
        """Say the mode, which is the wrapper's: the program does the same in either."""
        self.training = mode
        return self

    def extra_repr(self) -> str:
        """Say what the program is given and which of its answers counts."""
        facts = {"dtype": self.dtype, "keyword": self.keyword, "output": self.output}
        return ", ".join(f"{name}={value}" for name, value in facts.items() if value)


def scores_in(answer: Any, output: str = "") -> Tensor:
    """Return the scores among what a program answered: a tensor, or those called `output` (a name or a number).

    Without `output` it is what is called logits, or the only tensor. Raises `ModelError` where several could be meant,
    and where there is none of that name.
    """
    if isinstance(answer, Mapping):
        named = {str(name): value for name, value in answer.items() if isinstance(value, Tensor)}
    elif isinstance(answer, Sequence):
        named = {str(place): value for place, value in enumerate(answer) if isinstance(value, Tensor)}
    else:
        named = {"0": answer} if isinstance(answer, Tensor) else {}
    chosen = output or ("logits" if "logits" in named else next(iter(named), ""))
    if named and chosen in named and (output or chosen == "logits" or len(named) == 1):
        return named[chosen]
    if not named:
        raise ModelError(f"The program returned {type(answer).__name__}, expected a tensor of scores [N, K].")
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in named.items())
    if output:
        raise ModelError(f"output is {output!r}, and the program returns {shapes}.{did_you_mean(output, named)}")
    raise ModelError(f"The program returns {shapes}. Say which are the scores: ?output={next(iter(named))}")


def load_program(request: Request) -> Classifier:
    """Load `FILE`, a program of torch.export (.pt2), with the size of images and of batches that it was made for.

    Raises `BadInput` for a file that is no such program, without `allow_pickle`, and for programs that take no images
    alone or were exported in train mode.
    """
    path = _file(request, "pt2", EXPORTED)
    exported = _read(path, lambda: _loaded(path), "a program of torch.export")
    entry = _entry(exported, request.spec)
    module = exported.module()
    facts = program_graph.of_program(exported.graph, entry.name)
    _refuse_training(facts.training, request.spec)
    # so that nobody has to set the mode of what refuses that
    for part in module.modules():
        part.training = False
    _, channels, height, width = (side if isinstance(side, int) else None for side in entry.shape)
    options = _sized(request.options, channels, (height, width), request.spec)
    inside: nn.Module = Program(module, entry.dtype, keyword=entry.keyword, output=request.settings.get("output", ""))
    notes = [*_batch_notes(entry), *_size_notes(request.options, options)]
    least, most = entry.rows
    if least > 1 or most is not None:
        inside = StaticBatch(inside, most or _UNBOUNDED, least)
    shape = None if height is None or width is None else (channels or options.channels, height, width)
    return _classifier(request, path, inside, options=options, shape=shape, notes=notes, facts=facts)


def load_script(request: Request) -> Classifier:
    """Load `FILE`, a TorchScript program (torch.jit.save): scripted, traced or frozen.

    Raises `BadInput` for a file that is no such program, without `allow_pickle`, and for programs that take no images
    alone or were traced in train mode.
    """
    path = _file(request, "torchscript", TORCHSCRIPT)
    script: torch.jit.ScriptModule = _read(path, lambda: _loaded_script(path), "a TorchScript program")
    set_mode(script, training=False)
    _check_arguments(script, request.spec)
    facts = program_graph.of_script(script.inlined_graph)
    _refuse_training(facts.training, request.spec)
    options = request.options
    shape = options.input_shape
    output = request.settings.get("output", "")
    dtype = precision_of(script) or _dtype_of(script, shape, output)
    inside = Program(script, dtype, output=output)
    return _classifier(request, path, inside, options=options, shape=shape, notes=[], facts=facts)


def _classifier(
    request: Request,
    path: Path,
    inside: nn.Module,
    *,
    options: Options,
    shape: tuple[int, int, int] | None,
    notes: list[str],
    facts: program_graph.GraphFacts,
) -> Classifier:
    """Return the program as a classifier, with the gradients that it was found to have."""
    inside.train(False)
    rounds, notes = facts.cuts, [*notes, *facts.notes]
    gradient = _gradient(inside, shape, request.spec)
    access = Access.GRADIENT
    if gradient == "none" or (gradient == "zero" and rounds):
        access = Access.SCORES
        notes.append(_NO_GRADIENT[gradient].format(where=", ".join(rounds)))
    elif rounds:
        notes.append(
            f"The program has steps without a slope on its way from the image ({', '.join(rounds)}). If the network "
            "had a backward of its own there (torch.autograd.Function), the file has lost it: compare with the network "
            "before the export, since attacks on a broken gradient make a model look robust."
        )
    made = described(inside, request.spec, options)
    identity = f"program {digest_of_file(path)}"
    return dataclasses.replace(
        made, access=access, identity=identity, notes=(*made.notes, *notes), random=bool(facts.draws)
    )


_NO_GRADIENT = {
    "none": "The program gives no gradient (it was optimised for inference, quantised, or cuts the graph): it is "
    "attacked by its scores. A gradient attack can be made on the network before its export: "
    "--attack pgd:surrogate=my.py:network",
    "zero": "The gradient is zero, because the program has steps without a slope ({where}): torch.export keeps no "
    "backward of the network's own (torch.autograd.Function). It is attacked by its scores. A gradient attack can be "
    "made on the network before its export: --attack pgd:surrogate=my.py:network",
}


# ---- files


def _file(request: Request, scheme: str, wanted: str) -> Path:
    """Return the file of a request. Raises `BadInput` unless it is of the kind `wanted` and may be read."""
    path = Path(request.name).expanduser()
    if not request.name or not path.is_file():
        what = "a folder, expected a file" if path.is_dir() and request.name else "not there"
        raise BadInput(f"{path} (from {request.spec!r}) is {what}.{nearly(path) if request.name else ''}")
    other = what_else(path)
    if other == EXPORTED and any("aotinductor" in name for name in zipfile.ZipFile(path).namelist()):
        raise BadInput(
            f"{path} is compiled machine code (AOTInductor), which has no gradient and runs on the kind of device that "
            "it was compiled for. Give the program before its compilation: torch.export.save(program, path)."
        )
    if other != wanted:
        raise BadInput(f"{path} is no file for {scheme}: it is {other or _weights(path, request.spec, scheme)}")
    if not request.allow_pickle:
        raise BadInput(
            f"{path} was not read, because reading a program of torch could run code that it brings along. If you "
            "trust whoever made the file, allow it with --allow-pickle (allow_pickle=True)."
        )
    return path


def _weights(path: Path, spec: str, scheme: str) -> str:
    if is_safetensors(path):
        what = "a safetensors file"
    else:
        what = "a file of weights of torch.save, or one of no format that Assay knows"
    return f"{what}, without a program. Name its architecture: {spec.replace(scheme, 'file', 1)}?arch=…"


def _read(path: Path, read: Callable[[], Any], what: str) -> Any:
    try:
        return read()
    except Exception as error:  # torch raises a dozen kinds for damaged files and unknown operators
        raise BadInput(
            f"{path} could not be read as {what}: {in_short(error)}. If it was written by a newer torch than "
            f"{torch.__version__}, or with operators of another package, export it again or import that package in a "
            "file of your own and name that: my.py:factory."
        ) from error


def _loaded(path: Path) -> torch.export.ExportedProgram:
    from torch.export.passes import move_to_device_pass

    with _quietly("torch.export"), path.open("rb") as file:  # torch takes other endings from open files alone
        exported = torch.export.load(file)
    held = (*exported.state_dict.values(), *exported.constants.values())
    places = {str(one.device) for one in held if isinstance(one, Tensor)}
    return exported if places <= {"cpu"} else move_to_device_pass(exported, "cpu")


def _loaded_script(path: Path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(action="ignore"):  # torch calls TorchScript old
        script: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own
    return script


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Silence torch's log meanwhile: it writes the traceback of an error that is raised as well."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    inner = logging.getLogger(f"{name}.pt2_archive._package")
    before_inner, inner.disabled = inner.disabled, True
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.disabled, inner.disabled = before, before_inner


# ---- what a program takes


@dataclasses.dataclass(frozen=True)
class Entry:
    """The one argument of a program: its name, its shape `[N, C, H, W]` (a side is None where it is free), its type.

    `keyword` is the name it has to be given by, "" where it is given by its place. `rows` are the fewest images and the
    most (None: any number).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    keyword: str
    rows: tuple[int, int | None]


def _entry(exported: torch.export.ExportedProgram, spec: str) -> Entry:
    users = exported.graph_signature.user_inputs
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name in users]
    values = [node.meta.get("val") for node in nodes]
    if len(nodes) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        told = ", ".join(f"{node.name} {_told(value)}" for node, value in zip(nodes, values, strict=True))
        raise BadInput(
            f"{spec!r} takes {told or 'nothing'}; expected images [N, C, H, W] alone. Export a module whose forward "
            "takes the images, or load it in a file of your own, my.py:factory."
        )
    value = values[0]
    if value.dtype not in _FLOATS:
        raise BadInput(
            f"{spec!r} takes images as {str(value.dtype).removeprefix('torch.')}, expected floating-point values in "
            "[0, 1]: whole numbers have no gradient. Export the part behind the conversion to float."
        )
    sides = tuple(side if type(side) is int else None for side in value.shape)
    names = exported.call_spec.in_spec.child(1).context if exported.call_spec.in_spec is not None else []
    return Entry(nodes[0].name, sides, value.dtype, names[0] if names else "", _rows(exported, value.shape[0]))


def _told(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else repr(value)


def _rows(exported: torch.export.ExportedProgram, rows: Any) -> tuple[int, int | None]:
    if type(rows) is int:
        return rows, rows
    expression = rows.node.expr
    allowed = exported.range_constraints.get(expression)
    if not expression.is_symbol:
        # a multiple of a symbol: the smallest that is allowed
        smallest = {one: max(1, int(exported.range_constraints[one].lower)) for one in expression.free_symbols}
        count = int(expression.subs(smallest))
        return count, count
    if allowed is None:
        return 1, None
    # torch writes 2 where nothing was said, and takes one image all the same
    least = int(allowed.lower) if allowed.lower > 2 else 1
    most = int(allowed.upper) if allowed.upper < _UNBOUNDED else None
    return least, most


def _batch_notes(entry: Entry) -> list[str]:
    least, most = entry.rows
    if least == most:
        return [fixed_batch_note(least)]
    if least > 1:
        return [f"The exported program takes batches of {least} or more: smaller ones are filled up with copies."]
    return []


def _sized(options: Options, channels: int | None, sides: tuple[int | None, int | None], spec: str) -> Options:
    """Return the options with the size that the program was made for. Raises `BadInput` where they say another."""
    height, width = sides
    if channels is not None:
        if options.channels not in (Options.channels, channels):
            raise BadInput(f"{spec!r} says {options.channels} channels, and the program takes {channels}.")
        options = dataclasses.replace(options, channels=channels)
    if height is None or width is None:
        return options
    said = options.final_size
    if said not in (None, (height, width)):
        wants = f"{said[0]}x{said[1]}"
        raise BadInput(f"{spec!r} says images of {wants}, and the program takes {height}x{width} alone.")
    return sized(options, height, width)


def _size_notes(said: Options, known: Options) -> list[str]:
    if said.final_size is not None or known.final_size is None or said.resize is not None:
        return []
    height, width = known.final_size
    return [
        f"The program takes images of {height}x{width}; pictures of another size are resized and cropped to that. "
        "Where it was trained otherwise, say how: resize=, crop=, interpolation=, pad=."
    ]


def _check_arguments(script: torch.jit.ScriptModule, spec: str) -> None:
    schema: Any = script.forward.schema  # type: ignore[attr-defined]  # of a script alone
    arguments = schema.arguments[1:]
    needed = [one for one in arguments if not one.has_default_value()]
    if len(needed) == 1 and str(needed[0].type) == "Tensor":
        return
    told = ", ".join(f"{one.name}: {one.type}" for one in needed)
    raise BadInput(
        f"{spec!r} takes ({told}); expected one tensor of images [N, C, H, W]. Script a module whose forward takes the "
        "images alone, or load it in a file of your own, my.py:factory."
    )


def _dtype_of(script: nn.Module, shape: tuple[int, int, int] | None, output: str) -> torch.dtype | None:
    """Return the precision that a script without weights of its own (a frozen one) answers in; None where unknown."""
    for dtype in _FLOATS:
        for rows in _tries(shape, script):
            with contextlib.suppress(Exception), torch.no_grad():  # whatever an interpreter raises about types
                scores_in(script(rows.to(dtype)), output)
                return dtype
    return None


def _refuse_training(found: Sequence[str], spec: str) -> None:
    if found:
        raise BadInput(
            f"{spec!r} was exported in train mode: {', '.join(found)} on. Its answers change from call to call or with "
            "the other images in a batch, whatever mode it is put into. Export it again after network.eval()."
        )


# ---- the gradient


def _gradient(module: nn.Module, shape: tuple[int, int, int] | None, spec: str) -> str:
    """Return what a program's gradient is on two random images: "some", "zero" or "none"; "" where none fit.

    Raises `BadInput` where the program fails on images of the size that it was said to take.
    """
    failed: Exception | None = None
    for images in _tries(shape, module):
        rows = images.clone().requires_grad_()
        try:
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                scores = module(rows)
        except AssayError:
            raise
        except Exception as error:  # whatever a program raises for a size that it does not take
            failed = failed or error
            continue
        return _slope(scores, rows)
    if failed is not None and shape is not None:
        raise BadInput(f"{spec!r}: {model_error(failed, (2, *shape))}") from failed
    return ""


def _slope(scores: Tensor, rows: Tensor) -> str:
    if not scores.requires_grad:
        return "none"
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1)).to(scores.dtype)
    try:
        (gradient,) = torch.autograd.grad((scores * weights).sum(), rows, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return "none"
    if gradient is None:
        return "none"
    return "some" if bool((gradient != 0).any()) else "zero"


def _tries(shape: tuple[int, int, int] | None, module: nn.Module) -> Iterator[Tensor]:
    """Yield random images of the size that is known, or of those that are usual."""
    if shape is None:
        first = next((one for one in module.parameters() if one.ndim == 4), None)
        channels = [3, 1] if first is None else list(dict.fromkeys((first.shape[1], 3, 1)))
        shapes = [(count, side, side) for count in channels for side in _SIDES]
    else:
        shapes = [shape]
    for one in shapes:
        yield torch.rand(2, *one, generator=torch.Generator().manual_seed(0))
