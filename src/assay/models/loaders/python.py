"""Models made by the user's own code: `my.py:factory` and `package.module:factory`.

Naming the code is the consent to run it, as with any script.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.core.held import set_mode
from assay.models.classifier import Classifier
from assay.models.failures import in_short
from assay.models.function import as_module
from assay.models.normalized import Normalized, Thresholded, normalisation_of
from assay.models.spec import Options, Request

_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.\w+)*")


def is_python(spec: str) -> bool:
    """Say whether `spec` has the form `file.py:name` or `package.module:name`."""
    return ".py:" in spec or _MODULE.fullmatch(spec) is not None


def load(request: Request) -> Classifier:
    """Call the factory and describe what it returned: a module, or a `Classifier` that describes itself."""
    made = make(request.name)
    classifier = described(made, request.spec, request.options)
    set_mode(classifier.module, training=False)
    return dataclasses.replace(classifier, code=code_of(request.name))


def code_of(spec: str) -> str:
    """Return the digest of the imported file that `spec` names: another forward with equal weights is another model."""
    place = spec.rpartition(":")[0]
    file = place if place.endswith(".py") else getattr(sys.modules[place], "__file__", None)
    return hashlib.blake2b(Path(file).expanduser().read_bytes(), digest_size=16).hexdigest() if file else ""


def described(made: nn.Module | Classifier, spec: str, options: Options) -> Classifier:
    """Return a module as a classifier: with the normalisation of the options, or the one it has inside."""
    if isinstance(made, Classifier):
        if options != Options():
            raise BadInput(f"{spec!r} describes itself as a Classifier; its options belong there, not in the name.")
        return dataclasses.replace(made, spec=spec)
    if options.mean is not None and options.std is not None:
        module: nn.Module = Normalized(made, options.mean, options.std)
        inside: tuple[tuple[float, ...], tuple[float, ...]] | None = (options.mean, options.std)
    else:
        module, inside = made, normalisation_of(made)
    if options.threshold is not None:
        module = Thresholded(module, options.threshold).train(module.training)
    mean, std = inside or (None, None)
    shape = options.input_shape
    return Classifier(module, spec, "", shape, mean, std, options.preprocess, channels=options.channels)


def make(spec: str) -> nn.Module | Classifier:
    """Import what `spec` names and return the model: the result of a factory, or what stands there itself.

    A module, a `Classifier` and a callable with one required argument, the images, are models; whatever else can be
    called makes one. Raises `BadInput` when the file, module or name is missing, when the factory raises, and for
    another result.
    """
    with found(spec) as value:
        if not isinstance(value, nn.Module | Classifier) and not _takes_images(value):
            value = called(value, spec)
    if isinstance(value, Classifier):
        return value
    if isinstance(value, type) or not (isinstance(value, nn.Module) or callable(value)):
        raise BadInput(
            f"{spec!r} returned {type(value).__name__}; expected a torch.nn.Module or another callable that takes "
            "[N, C, H, W] in [0, 1] and returns logits, or an assay.Classifier."
        )
    return as_module(value, repr(spec))


def _takes_images(value: Any) -> bool:
    # a class makes a model, whatever it is made from
    if isinstance(value, type) or not callable(value):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (ValueError, TypeError):
        return False
    required = [one for one in parameters if one.default is one.empty and one.kind not in _MANY]
    return len(required) == 1 and required[0].kind is not inspect.Parameter.KEYWORD_ONLY


@contextlib.contextmanager
def found(spec: str) -> Iterator[Any]:
    """Import what `spec` names and yield it; its file may import its neighbours meanwhile.

    Raises `BadInput` when the file, module or name is missing, or when the import raises.
    """
    place, _, name = spec.rpartition(":")
    folder = Path(place).expanduser().parent if place.endswith(".py") else Path.cwd()
    with _importable(folder):
        value: Any = _imported(place)
        for part in name.split("."):
            value = _attribute(value, part, place)
        yield value


def called(factory: Any, spec: str) -> Any:
    """Return what a factory returns. Raises `BadInput` where it is none, or raises."""
    if not callable(factory):
        raise BadInput(f"{spec!r} is {type(factory).__name__}; expected a function without arguments, or a module.")
    try:
        return factory()
    except Exception as error:
        raise BadInput(f"{spec!r} failed: {in_short(error)}") from error


def _attribute(value: Any, name: str, place: str) -> Any:
    try:
        return getattr(value, name)
    except AttributeError as error:
        public = [n for n in vars(value) if not n.startswith("_")] if isinstance(value, ModuleType | type) else []
        raise BadInput(f"{place} has no {name!r}.{did_you_mean(name, public)}") from error


def _imported(place: str) -> ModuleType:
    try:
        return _from_path(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{place} could not be imported: {type(error).__name__}: {error}") from error


def _from_path(path: Path) -> ModuleType:
    if not path.is_file():
        there = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise BadInput(f"There is no file {path}.{did_you_mean(path.name, there)}")
    # a name of its own: my.py must not hide, or be hidden by, a package called `my`
    name = f"assay_user_{path.stem}_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the user's file import its neighbours, as when it is run as a script."""
    added = str(folder.resolve())
    sys.path.insert(0, added)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(added)
