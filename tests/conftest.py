"""What every test shares: one thread in each pytest process, and no state left between tests."""

from __future__ import annotations

import os
import re

import pytest

# pytest-xdist runs one process per core; more threads in each only fight. Set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A test that reads rich output gets plain text of one width, whatever terminal started it.
os.environ.update(NO_COLOR="1", COLUMNS="120")
os.environ.pop("FORCE_COLOR", None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Take memory addresses out of test names: pytest-xdist needs the same names in every process."""
    item._nodeid = re.sub(r" at 0x[0-9a-f]+", "", item._nodeid)
