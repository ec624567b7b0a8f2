"""What every test shares: one thread in each pytest process, and no state left between tests."""

from __future__ import annotations

import os

# pytest-xdist runs one process per core; more threads in each only fight. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that reads rich output gets plain text of one width, whatever terminal started it.
os.environ.update(NO_COLOR="1", COLUMNS="120")
os.environ.pop("FORCE_COLOR", None)
