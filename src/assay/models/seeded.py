"""torch's global generators under a seed, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators on all devices, and put their states back afterwards."""
    # naming the devices avoids a warning where there are several, and waking them up where nobody uses them
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if awake else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
