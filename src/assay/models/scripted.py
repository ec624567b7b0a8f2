"""What names a TorchScript module: its program, weights and constants, whatever its classes are called here."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator

import torch

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
