"""The table of keys in docs/endpoints.md: `python tests/unit/models/remote/test_keys.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assay.models.remote.description import AnswerPart, Description, LimitsPart, RetryPart

PAGE = Path(__file__).parents[4] / "docs" / "endpoints.md"
BEGIN, END = "<!-- keys: written by tests/unit/models/remote/test_keys.py -->\n", "<!-- end of keys -->"
PARTS: dict[str, type[BaseModel]] = {"answer": AnswerPart, "limits": LimitsPart, "retry": RetryPart}


def rows(part: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        if not before and name in PARTS:
            yield from rows(PARTS[name], f"{name}.")
            continue
        yield f"| `{before}{name}` | {usual(field)} | {field.description} |"


def usual(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "" or value == {} or value is False:
        return ""
    return (
        ", ".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def table() -> str:
    return "\n".join(["| key | without it | meaning |", "|---|---|---|", *rows(Description)]) + "\n"


def test_the_page_lists_every_key_of_a_description() -> None:
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0] == table()


if __name__ == "__main__":
    before, _, after = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + after.partition(END)[2], encoding="utf-8")
