"""What failed when code that is not Assay's raised an error: the model, where in the user's files, on which images."""

from __future__ import annotations

import dataclasses
import gc
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torch import Tensor, nn

from assay.core.errors import AssayError, ModelError
from assay.core.oracle import out_of_memory
from assay.models.classifier import Classifier
from assay.models.devices import of_another_device, told_devices

_ASSAY = Path(__file__).parents[1]
_STANDARD = Path(sysconfig.get_path("stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_CALLS = {"_call_impl", "_wrapped_call_impl"}


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """A call of a model: its name ("" where nobody knows it), and the shape of what it was given."""

    name: str
    shape: tuple[int, ...] | None


def failed_call(error: BaseException) -> ModelCall | None:
    """Return the outermost call of a network that an error came out of, or None where it came from elsewhere."""
    for frame in _frames(error):
        module = frame.f_locals.get("self")
        if frame.f_code.co_name in _CALLS and isinstance(module, nn.Module):
            given = frame.f_locals.get("args") or ()
            shape = tuple(given[0].shape) if given and isinstance(given[0], Tensor) else None
            return ModelCall(_name_of(module), shape)
    return None


def failed_gradient(error: BaseException) -> bool:
    """Whether an error came out of torch's differentiation of a network."""
    return any(Path(frame.f_code.co_filename).parts[-3:-1] == ("torch", "autograd") for frame in _frames(error))


def users_frame(error: BaseException) -> str:
    """Return the innermost line of the user's own files that an error came from, `my.py:5`; "" where there is none."""
    found = [one for one in traceback.extract_tb(error.__traceback__) if _is_users(one.filename)]
    return f"{Path(found[-1].filename).name}:{found[-1].lineno}" if found else ""


def in_short(error: BaseException) -> str:
    """Return an error's kind, its first line, and the line of the user's file that it came from."""
    if isinstance(error, SystemExit):
        told = f"it called sys.exit({error.code!r})" if error.code is not None else "it called sys.exit()"
    else:
        first = _first_line(str(error).strip())
        told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    place = users_frame(error)
    return f"{told} ({place})" if place else told


def _first_line(text: str) -> str:
    first, _, rest = text.partition("\n")
    if rest and "failed in the TorchScript interpreter" in first:
        # what failed stands below two tracebacks
        first = rest.rstrip().rpartition("\n")[2].partition(": ")[2] or first
    # a sentence of somebody else's goes on in one of ours
    return first if first.endswith("..") else first.removesuffix(".")


def model_error(error: BaseException, shape: tuple[int, ...], name: str = "") -> ModelError:
    """Return what a model's failure on images `[N, C, H, W]` of this shape says to its user."""
    model = f"The model {name}" if name else "The model"
    size = ", ".join(map(str, shape[1:]))
    return ModelError(f"{model} failed on images [N, {size}] in [0, 1]: {in_short(error)}. {_advice(error, shape)}")


def _advice(error: BaseException, shape: tuple[int, ...]) -> str:
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and out_of_memory(error)):
        return "Give a smaller --batch."
    if of_another_device(error):
        return (
            "It puts something on a device of its own choice (`.cuda()` or `.to(...)` in its forward, a tensor that is "
            "no parameter or buffer), and so works on that one only: register such tensors with register_buffer and "
            f"make new ones on x.device, or run it with --device for that one. {told_devices()}"
        )
    if type(error) not in (RuntimeError, ValueError, IndexError, AssertionError):
        return "Put that right in the model's code."
    one = "; if it takes one image at a time, pass --batch 1" if shape[0] > 1 else ""
    return f"If it wants another size or number of channels, say so: my.py:factory?size=32&channels=1{one}."


def blamed(error: BaseException) -> AssayError | None:
    """Return an error of the model, or of the user's own code, as a sentence; None for an error of any other origin."""
    call = failed_call(error)
    if call is not None and call.shape is not None and len(call.shape) == 4:
        return model_error(error, call.shape, call.name)
    if call is not None:
        return ModelError(f"The model {call.name}".rstrip() + f" failed: {in_short(error)}. {_HERE}")
    if failed_gradient(error):
        return ModelError(f"The gradient of the model could not be computed: {in_short(error)}. {_HERE}")
    if users_frame(error):
        return AssayError(f"Your code failed: {in_short(error)}. {_HERE}")
    return None


_HERE = "Put that right in its code."


def _frames(error: BaseException) -> Iterator[FrameType]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield frame


def _is_users(file: str) -> bool:
    path = Path(file)
    ours = path.is_relative_to(_ASSAY) or path.is_relative_to(_STANDARD) or bool(_INSTALLED & set(path.parts))
    # what has no file (`<string>`, the sources of a compiled library) is nobody's
    return not ours and path.is_file()


def _name_of(module: nn.Module) -> str:
    # asked once, after a failure: keeping track of every loaded model would cost more than this search
    # and by type: isinstance asks each object for its class, and some answer with a warning
    named = (one for one in gc.get_objects() if type(one) is Classifier and one.spec)
    return next((one.spec for one in named if any(part is module for part in one.module.modules())), "")
