"""Keras files (extra `keras`): networks saved whole, `.keras` or HDF5, on Keras' torch backend, with gradients."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.models.classifier import Classifier
from assay.models.failures import in_short
from assay.models.keras_ending import ended
from assay.models.keras_network import InputLayout, KerasNetwork, bytes_expected, input_layout, precisions
from assay.models.model_file import check_there, digest_of_file
from assay.models.normalized import Normalized
from assay.models.spec import Options, Request, sized, stated_range

_HDF5 = b"\x89HDF\r\n\x1a\n"
_INSTALL = "Install it with: pip install 'assay[keras]'"
_PROBES, _ANY_SIDE = 4, 224


def load(request: Request) -> Classifier:
    """Load `FILE`, a model saved by Keras 2 or 3, with its last softmax or sigmoid taken apart.

    Settings: `output`, the name or number of one of several outputs; `range`, what white is to the network, 1 or 255.
    What was compiled into the model is not read. Raises `BadInput` for a file without a network, for layers of the
    user's own, and (unless `allow_pickle`) for Lambda layers, which are code.
    """
    path = Path(request.name).expanduser()
    _check_file(path, request.spec)
    keras = imported()
    model, output = _one_output(keras, _read(keras, path, request), request)
    images = _images(model, request)
    notes, scale = _brightness(model, request)
    notes += _precision_notes(model)
    network, options = KerasNetwork(model, images, scale), request.options
    probes = _probes(images, options)
    _check_answers(network, probes, request)
    scores = ended(network, probes, options.threshold)
    module: nn.Module = scores.module
    if options.mean is not None and options.std is not None:
        module = Normalized(module, options.mean, options.std)
    shape = _shape(images, options)
    return Classifier(
        module,
        request.spec,
        input_shape=shape,
        mean=options.mean,
        std=options.std,
        preprocess=sized(options, images.height, images.width).preprocess,
        outputs=scores.outputs,
        channels=images.channels,
        notes=(*notes, *scores.notes),
        identity=f"keras {digest_of_file(path)} {output}",
    )


def imported() -> Any:
    """Import Keras on its torch backend, or raise `BadInput` with what to install or to change.

    The environment is left as it was: only this import reads it.
    """
    if sys.modules.get("keras") is None:
        with _environment("KERAS_BACKEND", "torch"), warnings.catch_warnings(action="ignore"):
            try:
                import keras
            except ImportError as error:
                raise BadInput(f"Keras 3 is not installed ({error}). {_INSTALL}") from error
    keras = sys.modules["keras"]
    version = str(getattr(keras, "__version__", "unknown"))
    if version.partition(".")[0] == "2":
        raise BadInput(f"Keras {version} is installed, expected Keras 3. {_INSTALL}")
    backend = keras.config.backend() if hasattr(keras, "config") else "unknown"
    if backend != "torch":
        raise BadInput(
            f"Keras was imported on its {backend} backend before Assay, expected torch, and it cannot change in a "
            "running process. Set KERAS_BACKEND=torch before Python starts, or before the first import of keras."
        )
    return keras


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_file(path: Path, spec: str) -> None:
    if path.is_dir():
        what = "a SavedModel, a graph of TensorFlow" if (path / "saved_model.pb").is_file() else "a folder"
        raise BadInput(f"{spec!r} names {what}, expected one file. Save the model as one: model.save('net.keras').")
    check_there(path, spec)
    with path.open("rb") as file:
        head = file.read(8)
    if head == _HDF5:
        _check_whole(path, spec)
    elif not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path} is no Keras file: it begins with {head!r}, expected a zip archive (.keras) or HDF5 (.h5, .hdf5). "
            "Save the model again: model.save('net.keras')."
        )
    else:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "config.json" not in names or "model.weights.h5" not in names:
            raise BadInput(
                f"{path} is a zip archive of {', '.join(names[:3]) or 'nothing'}, expected config.json and "
                "model.weights.h5, which a .keras file holds. Save the model again: model.save('net.keras')."
            )


def _check_whole(path: Path, spec: str) -> None:
    try:
        import h5py
    except ImportError as error:
        raise BadInput(f"h5py is not installed. {_INSTALL}") from error
    try:
        with h5py.File(path, "r") as file:
            whole = "model_config" in file.attrs
    except OSError as error:
        raise BadInput(f"{path} could not be read as HDF5: {in_short(error)}. Copy or download it again.") from error
    if not whole:
        raise BadInput(
            f"{spec!r} holds weights without a network (model.save_weights). Load them into the model that they "
            "belong to and save it whole: model.load_weights(path); model.save('net.keras')."
        )


def _read(keras: Any, path: Path, request: Request) -> Any:
    """Return the model in a file, or raise `BadInput` for one that cannot or must not be read."""
    try:
        with warnings.catch_warnings(action="ignore"), keras.device("cpu"):
            # a file that is called otherwise is read all the same
            model = _load(keras, path, safe_mode=not request.allow_pickle)
    except Exception as error:
        raise BadInput(_unreadable(request.spec, keras.__version__, error)) from error
    if not hasattr(model, "outputs") or not model.outputs:
        raise BadInput(
            f"{request.spec!r} holds a {type(model).__name__}, whose graph Keras does not know, expected a functional "
            "or sequential model. Wrap it in a function of your own, and name that: my.py:factory."
        )
    return model


def _load(keras: Any, path: Path, safe_mode: bool) -> Any:
    with path.open("rb") as file:
        hdf5 = file.read(8) == _HDF5
    if path.suffix in ((".h5", ".hdf5") if hdf5 else (".keras",)):
        return keras.saving.load_model(str(path), compile=False, safe_mode=safe_mode)
    # Keras goes by the name
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / ("model.h5" if hdf5 else "model.keras")
        link.symlink_to(path.resolve())
        return keras.saving.load_model(str(link), compile=False, safe_mode=safe_mode)


def _unreadable(spec: str, version: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "safe_mode" in text or "lambda" in text.lower():
        return (
            f"{spec!r} was not loaded, because it holds a Lambda layer, which is code that loading would run. If you "
            "trust it, allow it with --allow-pickle; else save the model with a layer of Keras in its place."
        )
    missing = re.search(r"(?:Could not locate \w+|Unknown [\w ]+:) '([^']+)'", text)
    if missing:
        return (
            f"{spec!r} holds {missing[1]!r}, which Keras {version} does not have: a layer or function of its author's. "
            "Save the model without it, or register it and wrap the loaded model in a function of your own, and name "
            "that: my.py:factory."
        )
    return f"{spec!r} could not be read by Keras {version}: {in_short(error)}"


def _one_output(keras: Any, model: Any, request: Request) -> tuple[Any, int]:
    """Return the model with one input and the one output that is asked for, and which one of its outputs that is."""
    if len(model.inputs) != 1:
        shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in model.inputs)
        raise BadInput(
            f"{request.spec!r} takes {len(model.inputs)} inputs ({shapes}), expected one, the images. Fix the others "
            "in a function of your own, and name that: my.py:factory."
        )
    # a sequential model has no names for its outputs; a functional one calls them by their layers
    names = [str(one._keras_history.operation.name) for one in model.outputs]
    wanted = request.settings.get("output")
    if len(names) == 1 and wanted in (None, "0", names[0]):
        return model, 0
    if wanted is not None and wanted in names:
        at = names.index(wanted)
    elif wanted is not None and wanted.isdecimal() and int(wanted) < len(names):
        at = int(wanted)
    else:
        shown = ", ".join(f"{name} {list(one.shape)}" for name, one in zip(names, model.outputs, strict=True))
        what = f"has no output {wanted!r}" if wanted is not None else f"has {len(names)} outputs, expected one"
        near = did_you_mean(wanted, names) if wanted else f" Name the one that answers: ?output={names[0]}."
        raise BadInput(f"{request.spec!r} {what}.{near} There are: {shown}.")
    return keras.Model(model.inputs, model.outputs[at]), at


def _images(model: Any, request: Request) -> InputLayout:
    shape = tuple(model.inputs[0].shape)
    images = input_layout(shape)
    if images is None:
        raise BadInput(
            f"{request.spec!r} takes {list(shape)}, expected images [N, height, width, channels] with 1, 3 or 4 "
            "channels. Put what turns images into its input into a function of your own, and name that: my.py:factory."
        )
    options = request.options
    if options.channels not in (images.channels, Options().channels):
        raise BadInput(
            f"channels is {options.channels} in {request.spec!r}, but the model takes {images.channels}. Leave it out."
        )
    sides = options.final_size
    if sides is not None:
        fixed = (images.height or sides[0], images.width or sides[1])
        if fixed != sides:
            raise BadInput(
                f"{request.spec!r} states a size of {sides[0]}x{sides[1]}, but the model takes {fixed[0]}x{fixed[1]}. "
                "Leave it out, or state how pictures come to it with resize, crop or pad."
            )
    return images


def _shape(images: InputLayout, options: Options) -> tuple[int, int, int] | None:
    sides = options.final_size or (images.height, images.width)
    return None if None in sides else (images.channels, int(sides[0] or 0), int(sides[1] or 0))


def _brightness(model: Any, request: Request) -> tuple[tuple[str, ...], float]:
    """Return what images are multiplied by: 255 for a model that rescales bytes inside, unless the user says more."""
    found, told = bytes_expected(model), stated_range(request)
    if told is not None:
        return (f"The model is given images from 0 to {told:g}, as was stated.",), told
    if not found:
        return (), 1.0
    mean, std = request.options.mean, request.options.std
    if mean is None or std is None:
        return (f"The model rescales bytes inside ({found}): it is given images from 0 to 255.",), 255.0
    raise BadInput(
        f"{request.spec!r} would be normalised twice: the model rescales bytes inside ({found}), and mean {mean} and "
        f"std {std} are stated. Leave them out, or state range=1 for images in [0, 1] as they are."
    )


def _precision_notes(model: Any) -> tuple[str, ...]:
    found = precisions(model)
    if not found:
        return ()
    return (f"The model was made to compute in {', '.join(found)}; it is measured in float32, as far as it can be.",)


def _probes(images: InputLayout, options: Options) -> torch.Tensor:
    """Return noise in [0, 1] of several brightnesses, in the size that the model takes."""
    high, wide = options.final_size or (_ANY_SIDE, _ANY_SIDE)
    shape = (_PROBES, images.channels, images.height or high, images.width or wide)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return drawn * torch.linspace(0.2, 1, _PROBES).view(-1, 1, 1, 1)


def _check_answers(network: KerasNetwork, probes: torch.Tensor, request: Request) -> None:
    """Ask the network once, and raise `BadInput` where it does not answer with one row of scores per image."""
    try:
        with torch.no_grad():
            output = network(probes[:2])
    except Exception as error:
        raise BadInput(
            f"{request.spec!r} could not be asked about images {list(probes.shape[1:])} on the torch backend of Keras: "
            f"{in_short(error)}. If it takes another size, state it: ?size=96."
        ) from error
    if output.ndim != 2:
        raise BadInput(
            f"{request.spec!r} answers {list(output.shape)} for {len(output)} images, expected class scores [N, K]. "
            "Name the output that holds them with ?output=, or wrap the model in a function of your own: my.py:factory."
        )
