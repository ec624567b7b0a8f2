"""These libraries live in .venv-scale; elsewhere these files are not collected, unless something asks for them."""

from __future__ import annotations

import os
from importlib.util import find_spec

# `make test-scale` asks: there a missing library fails
_there = any(map(find_spec, ("ray", "moto")))
collect_ignore_glob = [] if _there or "scale" in os.environ.get("ASSAY_REQUIRE", "") else ["test_*.py"]
