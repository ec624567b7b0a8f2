"""Weights in the user's file, for an architecture that the file or the user names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.core.errors import BadInput
from assay.core.held import set_mode
from assay.models.classifier import Classifier
from assay.models.foreign import is_safetensors, what_else
from assay.models.loaders.python import described
from assay.models.loaders.untrained import is_code, takes_classes, untrained
from assay.models.matching import Found, flattened, matched
from assay.models.model_file import check_there
from assay.models.normalized import Normalized, Thresholded
from assay.models.spec import Options, Request, check_sides, take_apart
from assay.models.weights_file import fill, read_safetensors, read_torch, state_in

# what a safetensors file may say about itself, under the same names as the options
FACTS = ("arch", "mean", "std", "size", "channels", "resize", "interpolation", "num_classes")


def load(request: Request) -> Classifier:
    """Load `PATH?arch=...`: safetensors, a state dict of torch, or (with `allow_pickle`) a whole pickled module.

    Facts in the metadata of a safetensors file stand in for options that are not given.
    """
    path, options = Path(request.name).expanduser(), request.options
    check_there(path, request.spec)
    if is_safetensors(path) or (path.suffix == ".safetensors" and not what_else(path)):
        state, facts = read_safetensors(path)
        found = Found(state, state, str(path))
        _refuse_code(request, facts.get("arch", ""))
        options = _completed(options, facts)
    else:
        value = _module_in(read_torch(path, request.allow_pickle))
        if isinstance(value, nn.Module):
            return _classifier(described(value, request.spec, Options()), request, options)
        found = Found(state_in(value, path), dict(flattened(value)), str(path))
    made = _architecture(options, request)
    fitting = matched(found, made.module.state_dict(), options.prefix)
    fill(made.module, fitting.state, str(path), fitting.nearest)
    return dataclasses.replace(_classifier(made, request, options), notes=fitting.notes)


def _module_in(value: Any) -> Any:
    """Return the network that training code pickled into its checkpoint beside other things, or `value` itself."""
    held = [value.get(key) for key in ("model", "net", "ema")] if isinstance(value, Mapping) else []
    return next((one for one in held if isinstance(one, nn.Module)), value)


def _classifier(made: Classifier, request: Request, options: Options) -> Classifier:
    """Return the filled network under the request's name, with the stated normalisation in front or inside it."""
    module, (mean, std) = _normalised(made, options, request.spec)
    if options.threshold is not None:
        module = Thresholded(module, options.threshold)
    set_mode(module, training=False)
    return Classifier(
        module,
        request.spec,
        "",
        options.input_shape,
        mean,
        std,
        options.preprocess,
        code=made.code,
        channels=options.channels,
    )


Normalisation = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def _normalised(made: Classifier, options: Options, spec: str) -> tuple[nn.Module, Normalisation]:
    """Put the stated normalisation in front of the network, unless it is the one that the network has inside."""
    mean, std, inside = options.mean, options.std, (made.mean, made.std)
    if mean is None or std is None:
        return made.module, inside
    if not any(mean) and set(std) == {1.0}:
        return made.module, (mean, std) if made.mean is None else inside
    if made.mean is None or made.std is None:
        return Normalized(made.module, mean, std), (mean, std)
    if not (_equal(mean, made.mean) and _equal(std, made.std)):
        raise BadInput(
            f"{spec!r} would be normalised twice: the network has mean {made.mean} and std {made.std} inside, and mean "
            f"{mean} and std {std} are stated. State the former, or mean=0&std=1 for nothing in front of the network."
        )
    return made.module, inside


def _equal(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    # modules hold float32; a single number stands for all channels
    longest = max(len(one), len(other))
    first, second = (torch.tensor(side * longest if len(side) == 1 else side) for side in (one, other))
    return torch.equal(first, second)


def _completed(options: Options, facts: dict[str, str]) -> Options:
    """Return the options with the file's facts where the user said nothing."""
    # older files state a number of classes for architectures that do not take it
    skipped = set() if takes_classes(options.arch or facts.get("arch", "")) else {"num_classes"}
    known = {key: facts[key] for key in FACTS if key in facts and key not in skipped}
    _, stated = take_apart("safetensors metadata", known, frozenset(FACTS))
    plain = Options()
    said = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Options)
        if getattr(options, field.name) != getattr(plain, field.name)
    }
    # who says how pictures are cropped or padded means that instead of what the file says
    replaced = {"crop": ("size", "resize"), "pad": ("resize",)}
    dropped = {name: None for key in replaced if key in said for name in replaced[key]}
    whole = dataclasses.replace(stated, **{**dropped, **said})
    check_sides(whole)
    return whole


def _architecture(options: Options, request: Request) -> Classifier:
    """Build the untrained network that `arch` names."""
    arch = options.arch
    if arch is None:
        raise BadInput(
            f"{request.spec!r} holds weights without an architecture. Name one: {request.spec}?arch=mnist-cnn, "
            "?arch=torchvision:resnet18 (with &num_classes=10 where it is not 1000) or ?arch=my.py:factory."
        )
    return untrained(arch, options.num_classes)


def _refuse_code(request: Request, arch: str) -> None:
    # who names code consents to running it; here the file would name it
    if request.options.arch is None and is_code(arch) and not request.allow_pickle:
        raise BadInput(
            f"{request.spec!r} was not loaded, because the file names code to run as its architecture: {arch}. If you "
            f"trust it, name it yourself: {request.spec}?arch={arch}, or allow it with --allow-pickle."
        )
