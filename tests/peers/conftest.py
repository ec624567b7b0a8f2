"""The peers live in .venv-peers alone; elsewhere these files are not collected."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("foolbox") else ["test_*.py"]
