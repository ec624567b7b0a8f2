"""What every test shares: one thread in each pytest process, no state left between tests, and what is measured."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest
from hypothesis import settings

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

# A busy machine is no failure of what is tested.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Torch and thousands of tests are a million objects that never go: to look through them again and again for cycles
# takes a good part of the time.
gc.disable()

# These repeat what tests/unit reaches, and the tracer of lines slows them and their child processes down.
UNMEASURED = [Path(__file__).parent / name for name in ("acceptance", "conformance", "known_answers")]


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    measured = not any(item.path.is_relative_to(folder) for folder in UNMEASURED)
    measurement = None if measured else coverage.Coverage.current()
    if measurement is None:
        return (yield)
    measurement.stop()
    # what coverage's patch for subprocesses sets, and `start` sets again
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    try:
        return (yield)
    finally:
        measurement.start()
