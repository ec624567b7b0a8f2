"""What every test shares: one thread in each pytest process, no state left between tests, and what is measured."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# pytest-xdist runs one process per core; more threads in each only fight. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that reads rich output gets plain text of one width, whatever terminal started it.
os.environ.update(NO_COLOR="1", COLUMNS="120")
os.environ.pop("FORCE_COLOR", None)

# Started in the background (as some CI runners do), a process ignores Ctrl-C and hands that on to its children; the
# tests of Ctrl-C need what a terminal gives.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These repeat what other tests reach thousands of times, and the tracer of lines slows them down.
UNMEASURED = [Path(__file__).parent / name for name in ("conformance", "known_answers")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in UNMEASURED):
            item.add_marker(pytest.mark.no_cover)
