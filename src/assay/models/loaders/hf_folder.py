"""Where a Hugging Face model lies: a folder, or an id on the hub whose files are fetched once, at one commit."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.models.foreign import is_safetensors, what_else
from assay.models.loaders.hf_pictures import PROCESSOR
from assay.models.spec import Request
from assay.models.weights_file import Unavailable

CONFIG = "config.json"
PROCESSORS = (PROCESSOR, "processor_config.json")
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class Place:
    """The folder that holds a model, and what is to be said of how it was found."""

    folder: Path
    notes: tuple[str, ...] = ()


def place_of(request: Request) -> Place:
    """Return the folder that a name means, fetched from the hub where it is an id.

    A name that is a folder here is that folder. Raises `BadInput` where there is neither, and `Unavailable` where the
    hub cannot be asked and nothing was kept.
    """
    name = request.name
    path = Path(name).expanduser()
    if path.is_dir():
        return Place(path)
    if path.is_file():
        raise BadInput(
            f"{path} (from {request.spec!r}) is a file; expected the folder that it lies in: hf:{path.parent}."
        )
    plain, _, revision = name.partition("@")
    if not _ID.fullmatch(plain) or plain.startswith("."):
        there = [one.name for one in path.parent.iterdir()] if name and path.parent.is_dir() else []
        raise BadInput(
            f"There is no folder {path} (from {request.spec!r}).{did_you_mean(path.name, there)} Expected a folder "
            f"with {CONFIG}, or an id on the Hugging Face hub, hf:owner/name@revision."
        )
    return _fetched(plain, revision, request)


def _fetched(name: str, revision: str, request: Request) -> Place:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise missing_extra() from error

    wanted = [CONFIG, *PROCESSORS, *_SAFE, "model-*.safetensors"]
    folder = _snapshot(snapshot_download, name, revision, wanted, request)
    if not any((folder / one).is_file() for one in _SAFE) and request.allow_pickle:
        folder = _snapshot(snapshot_download, name, revision, [*wanted, *_PICKLED, "pytorch_model-*.bin"], request)
    commit = folder.name
    notes = [f"{name} is at commit {commit}."]
    if not _COMMIT.fullmatch(revision):
        what = f"the branch or tag {revision!r}" if revision else "the main branch, since none was named"
        notes.append(
            f"{name} was taken from {what}, which can move: another day it may be another model. Name the commit: "
            f"hf:{name}@{commit}."
        )
    return Place(folder, tuple(notes))


def _snapshot(download: Any, name: str, revision: str, patterns: list[str], request: Request) -> Path:
    from huggingface_hub import errors

    try:
        return Path(download(name, revision=revision or None, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise Unavailable(
            f"{name} on the Hugging Face hub is gated: its owner has to give you access, and you have to be logged in "
            "(hf auth login)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BadInput(
            f"{name} on the Hugging Face hub has no revision {revision!r} (from {request.spec!r}); expected a commit, "
            "a tag or a branch of it."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadInput(
            f"There is neither a folder {name} here nor a model of that id on the Hugging Face hub (from "
            f"{request.spec!r}). A private one needs a login (hf auth login)."
        ) from error
    except ValueError as error:  # an id or a revision that the hub's client refuses
        raise BadInput(f"{request.spec!r} is no name of a model on the Hugging Face hub: {error}") from error
    except Exception as error:  # no connection, a proxy, a server that is down: of several libraries
        raise Unavailable(
            f"{name} is no folder here, and could not be fetched from the Hugging Face hub: "
            f"{str(error).strip().partition(chr(10))[0] or type(error).__name__} Fetch it once on a machine with a "
            f"connection (hf download {name}), and name the folder: hf:./folder."
        ) from error


def missing_extra() -> BadInput:
    """Return the error for a library that is not installed."""
    return BadInput("transformers is not installed. Install it with: pip install 'assay[hf]'")


# ---- what lies in it


def config_in(folder: Path, spec: str) -> dict[str, Any]:
    """Return the config of a folder as it is written. Raises `BadInput` where it holds no model of transformers."""
    path = folder / CONFIG
    if not path.is_file():
        there = ", ".join(sorted(one.name for one in folder.iterdir())[:8]) or "nothing"
        also = ""
        if (folder / "adapter_config.json").is_file():
            also = " It holds an adapter alone: merge it into its model first (merge_and_unload), and save that."
        elif (folder / "model_index.json").is_file():
            also = " It is a pipeline of several models; name the folder of the classifier."
        else:
            inside = sorted(one.parent for one in folder.glob(f"*/{CONFIG}"))
            also = f" Did you mean hf:{inside[-1]}?" if inside else ""
        raise BadInput(
            f"{folder} (from {spec!r}) has no {CONFIG}, but {there}.{also} Expected what save_pretrained writes."
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no readable JSON: {error}") from error
    if not isinstance(config, dict) or not config:
        raise BadInput(f"{path} holds {type(config).__name__}, expected the settings of a model as an object.")
    return config


def weights_in(folder: Path, spec: str, allow_pickle: bool) -> tuple[bool, list[Path]]:
    """Return whether the weights of a folder are safetensors, and their files.

    Raises `BadInput` where there are none, where one is missing or is something else, and for a pickled file without
    `allow_pickle`.
    """
    safe = _listed(folder, _SAFE)
    files = safe or _listed(folder, _PICKLED)
    if not files:
        others = [one for one in ("tf_model.h5", "flax_model.msgpack", "rust_model.ot") if (folder / one).is_file()]
        told = f", but {others[0]}, of another framework" if others else ""
        raise BadInput(
            f"{folder} (from {spec!r}) has no {_SAFE[0]}{told}. Expected the weights beside {CONFIG}: copy or download "
            "the whole folder, or save the model again (save_pretrained)."
        )
    if not safe and not allow_pickle:
        raise BadInput(
            f"{files[0]} was not read, because it is a pickled file, which could run code. Save the model as "
            "safetensors (save_pretrained does), or, if you trust whoever made it, allow it with --allow-pickle "
            "(allow_pickle=True): tensors alone are then read from it."
        )
    for one in files:
        if not one.is_file():
            raise BadInput(f"{one} is missing, a part of the weights of {spec!r}. Copy or download the whole folder.")
        other = what_else(one)
        if other or (safe and not is_safetensors(one)):
            raise BadInput(f"{one} holds no weights: it is {other or 'no safetensors file, or a damaged one.'}")
    return bool(safe), files


def _listed(folder: Path, names: tuple[str, str]) -> list[Path]:
    whole, index = (folder / name for name in names)
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return []
    try:
        parts = json.loads(index.read_text("utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"{index} is no readable list of the parts of a model's weights: {error}") from error
    return [folder / part for part in sorted(set(parts))]
