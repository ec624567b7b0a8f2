"""Headers that hold secrets: taken from the environment, and kept out of whatever is written or said."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from assay.core.errors import BadInput

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# headers whose values are secrets, whatever they are
_SECRET = re.compile(r"auth|key|token|secret|cookie|passw|credential|signature", re.IGNORECASE)
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "expect"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# an echo of fewer characters says nothing, and would blacken half of a message
_SHORT = 4


class Headers:
    """The headers of every request: `sent` are their values, and `template` is how they were written.

    Raises `BadInput` for a variable that is not set, a secret that stands in the file itself, and for a header that
    cannot be sent. Its printed form holds no value.
    """

    def __init__(self, template: Mapping[str, str] | None = None) -> None:
        self.template = dict(template or {})
        self._values: set[str] = set()
        self.sent = {name: self._value(name, text) for name, text in self.template.items()}

    def __repr__(self) -> str:
        return f"Headers({', '.join(self.template)})"

    def redacted(self, text: str) -> str:
        """Return a text with `***` where a secret stood."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def _value(self, name: str, text: str) -> str:
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise BadInput(f"headers: {name!r} cannot be given; expected a header such as authorization or x-api-key.")
        if _SECRET.search(name) and not _NAMED.search(text):
            raise BadInput(
                f"headers: {name} stands in the file as it is, and so would in every copy of it. Put it into an "
                f'environment variable and write its name: {name}: "${{NAME}}".'
            )
        whole = _NAMED.sub(lambda found: self._of(name, found[1]), text)
        if "${" in _NAMED.sub("", text):
            raise BadInput(f'headers: {name} has a "${{" that names no variable; expected such as "Bearer ${{TOKEN}}".')
        if not whole.isascii() or not whole.isprintable():
            raise BadInput(f"headers: {name} holds characters that a header cannot, such as a line break at its end.")
        self._remember(whole if _NAMED.search(text) else "")
        return whole

    def _of(self, header: str, variable: str) -> str:
        value = os.environ.get(variable, "")
        if not value:
            state = "empty" if variable in os.environ else "not set"
            raise BadInput(
                f"headers: {header} takes the environment variable {variable}, which is {state}. Set it first."
            )
        self._remember(value)
        return value

    def _remember(self, value: str) -> None:
        if len(value) >= _SHORT:
            self._values.add(value)
