"""Files of weights: safetensors with facts about themselves, and torch's files read without running their code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, BadInput
from assay.files import write_atomically
from assay.models.foreign import TORCHSCRIPT, is_torch, what_else
from assay.models.matching import flattened

_UNKNOWN = (
    "its first bytes are those of no format that Assay knows. Give the weights alone, saved by "
    "torch.save(model.state_dict(), ...) or as safetensors."
)


class Unavailable(AssayError):
    """Weights or data that could not be fetched: no connection, or a source that is gone."""


def save_weights(module: nn.Module, path: Path, facts: Mapping[str, str], dtype: torch.dtype | None = None) -> None:
    """Write the module's parameters and buffers with `facts` as safetensors, floating-point ones rounded to `dtype`.

    The file appears whole or not at all.
    """
    tensors = {
        name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    save_tensors(tensors, path, facts)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str]) -> None:
    """Write tensors with `facts` as safetensors, equal ones as equal bytes; the file appears whole or not at all."""
    from safetensors.torch import save

    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = save(own, dict(facts))
    # the library writes the facts in an order that changes from call to call
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    write_atomically(path, len(header).to_bytes(8, "little") + header + content[end:])


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and the facts stored with them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is no readable safetensors file: {error}") from error


def read_torch(path: Path, allow_pickle: bool) -> Any:
    """Return what a file of `torch.save` holds; without `allow_pickle` only tensors and plain values are read.

    Raises `BadInput` for a damaged file, for one of another format, and for one that would have to run code to be read.
    """
    other = what_else(path)
    # torch.load reads a TorchScript program where reading may run code
    if other and not (allow_pickle and other == TORCHSCRIPT):
        raise BadInput(f"{path} is no readable file of torch.save: it is {other}")
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise BadInput(f"{path} is no readable file of torch.save: {error}") from error
        if not is_torch(path):
            raise BadInput(f"{path} is no readable file of torch.save: {_UNKNOWN}") from error
        named = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), str(error).split("\n")[0])
        raise BadInput(
            f"{path} was not read, because reading it could run code it brings along ({named}). Export the weights "
            "alone with torch.save(model.state_dict(), ...) or as safetensors; if you trust whoever made the file, "
            "allow it with --allow-pickle (allow_pickle=True)."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise BadInput(f"{path} is no readable file of torch.save: {error}") from error


def state_in(value: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file held: itself, or under the usual keys of training checkpoints.

    Where it is at none of these places, all tensors in nested dicts are returned, nested keys joined by dots.
    """
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
            break
    state = dict(flattened(value)) if isinstance(value, Mapping) else {}
    if not state:
        found = f"a dict with {', '.join(map(str, list(value)[:5]))}" if isinstance(value, Mapping) else type(value)
        raise BadInput(f"{path} holds {found}, expected a state dict (names -> tensors).")
    # data-parallel training puts `module.` before every name
    parallel = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in state.items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], what: str, nearest: str = "") -> None:
    """Load a state dict into `module`, or raise `BadInput` naming the first parts that do not fit."""
    own = module.state_dict()
    # batch counters came late to BatchNorm; older files lack them, and evaluation does not read them
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    shapes = [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the architecture"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{title} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for title, names in (("lacking", missing), ("unexpected", extra), ("of another shape:", shapes))
        if names
    ]
    if problems:
        raise BadInput(
            f"The weights of {what} do not fit the architecture: {'; '.join(problems)}.{nearest} Name another one."
        )
    module.load_state_dict(state, strict=False)
