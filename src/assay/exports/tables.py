"""The numbers as JSON and CSV."""

# shape: a file for each export

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from assay import report
from assay.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from assay.exports.facts import Facts

_ABOUT = ("study", "status", "reportable")


def write_json(facts: Facts, target: Path) -> list[str]:
    """Write what `assay show --json` prints, and under `facts` what it rests on."""
    text = json.dumps(facts.document(), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(target, f"{text}\n".encode())
    return [str(target)]


def write_csv(facts: Facts, target: Path) -> list[str]:
    """Write what `assay show --format csv` prints; each row begins with the study, its status, and `reportable`."""
    about = [str(facts.shown[name]) for name in _ABOUT]
    head, *rows = csv.reader(io.StringIO(report.csv(facts.run), newline=""))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_ABOUT, *head])
    writer.writerows([*about, *row] for row in rows)
    write_atomically(target, stream.getvalue().encode())
    return [str(target)]
