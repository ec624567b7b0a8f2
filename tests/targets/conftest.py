"""These libraries live in .venv-targets; elsewhere these files are not collected, unless something asks for them."""

from __future__ import annotations

import os
from importlib.util import find_spec

# `make test-targets` asks: there a missing library fails
_there = any(map(find_spec, ("keras", "ai_edge_litert", "onnxscript")))
collect_ignore_glob = [] if _there or "targets" in os.environ.get("ASSAY_REQUIRE", "") else ["test_*.py"]
