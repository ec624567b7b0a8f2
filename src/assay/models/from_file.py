"""Weights in the user's file, for an architecture that the file or the user names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Classifier
from assay.models.from_python import is_python
from assay.models.normalized import Normalized
from assay.models.request import Options, Request, take_apart
from assay.models.untrained import untrained
from assay.models.weights_file import fill, read_safetensors, read_torch, state_in

# what a safetensors file may say about itself, under the same names as the options
FACTS = ("arch", "mean", "std", "size", "channels", "resize", "interpolation", "num_classes")


def load(request: Request) -> Classifier:
    """Load `PATH?arch=...`: safetensors, a state dict of torch, or (with `allow_pickle`) a whole pickled module.

    Facts in the metadata of a safetensors file stand in for options that are not given.
    """
    path, options = Path(request.name).expanduser(), request.options
    if not path.is_file():
        raise BadInput(f"There is no file {path} (from {request.spec!r}).{_neighbour(path)}")
    if path.suffix == ".safetensors":
        state, facts = read_safetensors(path)
        _refuse_code(request, facts.get("arch", ""))
        options = _completed(options, {key: facts[key] for key in FACTS if key in facts})
    else:
        value = read_torch(path, request.allow_pickle)
        if isinstance(value, nn.Module):
            return _classifier(value.eval(), request.spec, options)
        state = state_in(value, path)
    module = _architecture(options, request)
    fill(module, state, str(path))
    return _classifier(module.eval(), request.spec, options)


def _classifier(module: nn.Module, spec: str, options: Options) -> Classifier:
    mean, std = options.mean, options.std
    if mean is not None and std is not None and (any(mean) or set(std) != {1.0}):
        module = Normalized(module, mean, std)
    return Classifier(module, spec, "", options.input_shape, mean, std, options.preprocess)


def _completed(options: Options, facts: dict[str, str]) -> Options:
    """Return the options with the file's facts where the user said nothing."""
    _, stated = take_apart("safetensors metadata", facts, frozenset(FACTS))
    plain = Options()
    said = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Options)
        if getattr(options, field.name) != getattr(plain, field.name)
    }
    return dataclasses.replace(stated, **said)


def _architecture(options: Options, request: Request) -> nn.Module:
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
    if request.options.arch is None and is_python(arch) and not arch.startswith("torchvision:"):
        if request.allow_pickle or arch.startswith("timm:"):
            return
        raise BadInput(
            f"{request.spec!r} was not loaded, because the file names code to run as its architecture: {arch}. If you "
            f"trust it, name it yourself: {request.spec}?arch={arch}, or allow it with --allow-pickle."
        )


def _neighbour(path: Path) -> str:
    return did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
