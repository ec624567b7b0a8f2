"""A classifier: a model with all the facts that numbers depend on, and the digest that names it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from assay.core.form import outside, precision_of
from assay.core.held import frozen
from assay.core.oracle import ONE_PASS, Access, LookPasses, TorchOracle
from assay.defenses.chain import Step
from assay.defenses.fitted import Fitted
from assay.models.facts import check_told_apart, facts_of_attributes
from assay.models.remote.module import Endpoint, endpoints_of

# the second class of a name gets a number, which counts all those compiled in this process
_NUMBERED = re.compile(r"[./]?___torch_mangle_\d+")
_PLACE = re.compile(r"\s*#.*$", re.MULTILINE)


def parts_of(module: torch.jit.ScriptModule) -> Iterator[bytes]:
    """Yield what the answers of a scripted, traced or frozen module depend on, the same in every process."""
    stream = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # torch calls this old
        torch.jit.save(module, stream)
    yield _PLACE.sub("", _NUMBERED.sub("", str(module.inlined_graph))).encode()
    with zipfile.ZipFile(stream) as archive:
        for name in sorted(archive.namelist()):
            inside = name.partition("/")[2]
            if inside in ("data.pkl", "constants.pkl"):
                yield f"{inside} {_listed(archive.read(name))}".encode()
            elif inside.startswith(("data/", "constants/")):
                yield inside.encode()
                yield archive.read(name)


def _listed(pickled: bytes) -> str:
    # read as a list of instructions, which runs nothing
    listed = [f"{code.name} {argument!r}" for code, argument, _ in pickletools.genops(pickled)]
    return _NUMBERED.sub("", "\n".join(listed))


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What data loading does to a picture before the model sees it, as the weights' authors did.

    `resize` is the length of the shorter side, or (height, width); `crop` is the (height, width) cut from the
    middle. None leaves the step out. `interpolation` is a name of torchvision's `InterpolationMode`. With `pad`, the
    whole picture is scaled to fit into (height, width) `resize`, and the rest is filled with that grey level, 0 to 255.
    A crop begins at half of what is left over, which is rounded to an even number where it lies between two, as
    torchvision does it; or, `floored`, to the lower one, as transformers does.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    pad: int | None = None
    floored: bool = False

    def facts(self) -> dict[str, Any]:
        """Return the fields by name; later ones only where they are used, since cells are named by these facts."""
        unused = {name for name, value in (("pad", self.pad), ("floored", self.floored or None)) if value is None}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in unused}


@dataclasses.dataclass(frozen=True)
class Reset:
    """A user's `reset` of a state, which is called with the user's own `module`, whatever stands around it.

    `path` is where a copy of what stands around it has its own.
    """

    reset: Callable[[nn.Module], object]
    module: nn.Module
    path: str = ""

    def __call__(self, asked: nn.Module) -> None:
        """Let the module begin again, before `asked`, in which it stands, is called."""
        own = next((one for one in asked.modules() if one is self.module), None)
        self.reset(asked.get_submodule(self.path) if own is None else own)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """An image classifier: `[N, C, H, W]` in [0, 1] -> logits `[N, K]`, normalisation inside.

    `mean` and `std` are those of the normalisation inside the module; None means unknown, and budgets in
    normalised units are then refused. `digest` names the weights and what is around them; `load_model` fills it
    in. `published_accuracy` is the top-1 fraction on the weights' own test set. `code` is the digest of the user's
    file that made the module, "" where there is none. `channels` says how many the images have where no `input_shape`
    does. `notes` are things the user should know about how the weights were understood.

    `access` is the most that the model can give: gradients, scores, or labels. `reset` is called with the module
    before every pass, for models that keep a state. `identity` goes into the digest: whatever answers depend on and
    the module does not hold, such as the hash of a file, an endpoint, a version. `runs_on` is the device to compute on
    while held; None leaves the model where it is.

    `rejects` says that the last of its logits is no class: an image with that one highest is refused. `passes` are
    those of the network in one look, and `random` says that answers are drawn (from `core.draws.current`). `defenses`
    stand around the classifier `undefended`, with what was `fitted` for them: see `defended`.
    """

    module: nn.Module
    spec: str = ""
    digest: str = ""
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None
    published_accuracy: float | None = None
    outputs: str = "logits"
    code: str = ""
    channels: int | None = None
    notes: tuple[str, ...] = ()
    access: Access = Access.GRADIENT
    reset: Callable[[nn.Module], object] | None = None
    identity: str = ""
    runs_on: torch.device | None = None
    rejects: bool = False
    passes: LookPasses = ONE_PASS
    random: bool = False
    defenses: tuple[Step, ...] = ()
    fitted: Fitted | None = None
    undefended: Classifier | None = None

    @property
    def device(self) -> torch.device:
        """Where the model computes, and its images have to be."""
        return self.module_device if self.runs_on is None else self.runs_on

    @property
    def module_device(self) -> torch.device:
        """Where the module lies while nobody holds the model."""
        return next((one.device for one in (*self.module.parameters(), *self.module.buffers())), torch.device("cpu"))

    @property
    def outside(self) -> bool:
        """Whether the model answers outside of torch, and has whoever asks it pay for each row: an endpoint."""
        return outside(self.module)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints that the model asks; none for most."""
        return endpoints_of(self.module) if self.outside else []

    @property
    def classes_outside(self) -> int | None:
        """How many classes a model has that answers outside of torch, where it says so; None for others."""
        parts = (part for part in self.module.modules() if getattr(part, "outside", False) is True)
        known = next((getattr(part, "classes", None) for part in parts), None)
        return known if isinstance(known, int) else None

    @property
    def precision(self) -> torch.dtype:
        """The floating-point type that the model computes in: that of its first parameter or buffer."""
        return precision_of(self.module) or torch.float32

    @contextlib.contextmanager
    def held(self) -> Iterator[Classifier]:
        """Hold the model still: eval mode, no gradients of parameters. Afterwards it is exactly as it was."""
        with frozen(self.module, device=self.runs_on, copied=self.reset is not None):
            yield self

    def oracle(self, batch: int | None = None) -> TorchOracle:
        """Return what answers looks about the model; `batch` bounds the rows of a pass."""
        reset = self.reset
        if reset is not None and not isinstance(reset, Reset):
            reset = Reset(reset, self.module)
        return TorchOracle(
            self.module, batch, reset=reset, gives=self.access, passes=self.passes, random=self.random,
            rejects=self.rejects,
        )  # fmt: skip


# torch prints larger tensors without their middle
_PRINTED = 1000


def digest_of(classifier: Classifier) -> str:
    """Return the digest (32 hex digits) of everything in a classifier that its answers depend on.

    That is names, types, shapes and bytes of all parameters and buffers, the printed structure of the module
    (two networks may share their weights and differ in an activation), the normalisation, what the outputs
    mean, and the user's code that made it.
    """
    content = hashlib.blake2b(digest_size=16)
    # modules print the addresses of functions they hold, which differ from process to process
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(classifier.module))
    content.update(repr((structure, classifier.mean, classifier.std, classifier.outputs, classifier.code)).encode())
    update_with_state(content, classifier.module)
    if classifier.identity:
        content.update(f"identity {classifier.identity}".encode())
    if classifier.rejects:
        content.update(b"rejects")
    if not classifier.module.state_dict() and classifier.code:
        # what such a module answers from lies elsewhere: two factories of one file are two models
        content.update(f"spec {classifier.spec}".encode())
    if not classifier.module.state_dict():
        content.update(facts_of_attributes(classifier.module).encode())
    for part in _unprinted(classifier.module):
        content.update(part)
    return content.hexdigest()


def check_identity(classifier: Classifier) -> None:
    """Raise `BadInput` for a model that its digest cannot tell from others, and that comes without an `identity`."""
    if not classifier.identity:
        check_told_apart(classifier.module, classifier.spec or "The model")


def _unprinted(module: nn.Module) -> Iterator[bytes]:
    # what neither the printed structure nor the state holds: tensors kept as plain attributes, and compiled programs
    if isinstance(module, torch.jit.ScriptModule):
        yield from parts_of(module)
        return
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            if part is not module and name:
                yield from _unprinted(part) if not _inside_script(module, name) else ()
            continue
        if isinstance(part, fx.GraphModule):
            yield part.code.encode()
        for key, value in sorted(vars(part).items()):
            if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
                yield f"{name}.{key} {value.dtype} {tuple(value.shape)}".encode()
                yield _bytes_of(value)


def _inside_script(module: nn.Module, name: str) -> bool:
    above = name.rpartition(".")[0]
    return bool(above) and isinstance(module.get_submodule(above), torch.jit.ScriptModule)


def _bytes_of(value: Tensor) -> bytes:
    value = value.detach().cpu()
    if value.is_quantized:
        return _bytes_of(value.int_repr()) + repr(value.qscheme()).encode() + _scales_of(value)
    if value.layout is not torch.strided:
        value = value.to_dense()
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _scales_of(value: Tensor) -> bytes:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return repr((value.q_scale(), value.q_zero_point())).encode()
    return _bytes_of(value.q_per_channel_scales()) + _bytes_of(value.q_per_channel_zero_points())


def update_with_state(content: hashlib.blake2b, module: nn.Module) -> None:
    """Add names, types, shapes and bytes of the module's parameters and buffers to a running digest."""
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(_bytes_of(value))
        else:  # a module's extra state
            content.update(f"{name} {value!r}".encode())
            # the middle of a large tensor is not printed
            for part in _tensors_in(value):
                if part.numel() > _PRINTED:
                    content.update(_bytes_of(part))


def _tensors_in(value: Any) -> Iterator[Tensor]:
    # the weights of an int8 layer are such a state: (weight, bias)
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors_in(one)
