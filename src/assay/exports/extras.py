"""Libraries that only an export needs: had when it is asked for, or named with the line that installs them."""

from __future__ import annotations

import re
from importlib.util import find_spec

from assay.core.errors import BadInput


def require(module: str, called: str, extra: str) -> None:
    """Raise `BadInput` where a library is not installed; nothing is imported."""
    if find_spec(module) is None:
        raise BadInput(f"{called} is not installed. Install it with: pip install 'assay[{extra}]'")


def in_line(error: Exception) -> str:
    """Return what kind an error is and what it says, in one line of bounded length without secrets."""
    said = without_secrets(" ".join(str(error).split()))[:300]
    return f"{type(error).__name__}: {said}"


def without_secrets(text: str) -> str:
    """Return a text without the user and password of the addresses in it."""
    return re.sub(r"(?<=://)[^/\s@]*@", "", text)
