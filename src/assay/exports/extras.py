"""Libraries that only an export needs: had when it is asked for, or named with the line that installs them."""

# shape: two adapters ask here, and none of them may be imported by the other
from __future__ import annotations

from importlib.util import find_spec

from assay.core.errors import BadInput


def require(module: str, called: str, extra: str) -> None:
    """Raise `BadInput` where a library is not installed; nothing is imported."""
    if find_spec(module) is None:
        raise BadInput(f"{called} is not installed. Install it with: pip install 'assay[{extra}]'")
