"""Devices by name: which are here, which a run may compute on, and what an error of a model on another one says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from assay.core.errors import BadInput

# what torch says where a tensor is elsewhere than the rest, or is sent to a device that is not there
_ELSEWHERE = (
    re.compile(r"on the same device|same device as|input type .* and weight type .* should be the same", re.IGNORECASE),
    re.compile(
        r"torch not compiled with|no nvidia driver|invalid device ordinal|no (cuda|hip|xpu) (gpus|devices)", re.I
    ),
)


def devices_here() -> list[str]:
    """Return the names of the devices that torch finds on this machine, the CPU first."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu", *(f"{kind.type}:{at}" for at in range(torch.accelerator.device_count()) if kind is not None)]


def told_devices() -> str:
    """Say which devices there are."""
    return f"There are: {', '.join(devices_here())}."


def read_devices(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the devices of a list, or of a text with commas: `cuda:0,cuda:1`.

    Raises `BadInput` for a list that is empty, a device that is not here, and devices of several kinds, whose rounding
    differs: which of them got an image would show in its record.
    """
    parts = given.split(",") if isinstance(given, str) else list(given)
    names = tuple(str(one).strip() for one in parts)
    if not names or "" in names:
        raise BadInput(f"devices is {given!r}, expected one or more, such as 'cuda:0,cuda:1'. {told_devices()}")
    kinds = dict.fromkeys(check_device(name).type for name in names)
    if len(kinds) > 1:
        raise BadInput(
            f"devices are {', '.join(names)}, of several kinds ({' and '.join(kinds)}), which round differently: a "
            "record would depend on which of them made it. Take those of one kind."
        )
    return names


def check_device(name: str) -> torch.device:
    """Return the device of a name. Raises `BadInput`, saying which there are, for one that is not on this machine."""
    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
        count = module.device_count() if module.is_available() else 0
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"The device {name!r} cannot be used here: {reason}. {told_devices()}") from error
    if (device.index or 0) >= count:
        raise BadInput(f"The device {name!r} is not on this machine. {told_devices()}")
    return device


def use_device(name: str) -> None:
    """Make a device the current one of this process: code that asks for `.cuda()` gets this one, not the first."""
    device = torch.device(name)
    if device.index is not None:
        torch.get_device_module(device).set_device(device.index)


def let_go_of_memory(name: str | None) -> None:
    """Give the memory that torch keeps for later on a device back to it, where others are to use it."""
    module: Any = torch.get_device_module(torch.device(name or "cpu"))
    empty = getattr(module, "empty_cache", None)
    if empty is not None:
        empty()


def of_another_device(error: BaseException) -> bool:
    """Whether an error says that a tensor lies on another device than the rest, or is sent to one that is not here."""
    text = str(error)
    return isinstance(error, (RuntimeError, AssertionError)) and any(one.search(text) for one in _ELSEWHERE)
