"""What every test shares: one thread in each pytest process, and no state left between tests."""

from __future__ import annotations

import os
import signal

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
