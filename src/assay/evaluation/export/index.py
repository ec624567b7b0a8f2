"""The index of exported images: one row per image, written chunk by chunk and joined at the end."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.evaluation.execution.lock import NAME as LOCK
from assay.evaluation.records.schema import BROKEN
from assay.files import TEMPORARY, in_words, write_atomically

INDEX, FACTS, _PARTS = "index.csv", "export.json", ".parts"
COUNTS = ("images", "broken", "fooling", "outside", "differ")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One exported image: where it is, what its record says, and what the model says about it as it was written.

    `file` is relative to the index, `row` the place in an array file. `prediction` is the model's answer about what
    the file holds (None where that is no number, or the model refuses it), `still_fools` whether the attack's goal is
    reached by it. `size` is that of the change as written, in the norm and unit of the threat; `inside_budget` whether
    budget and box hold it.
    """

    file: str
    row: int | None
    sample_id: str
    label: int
    target: int | None
    status: str
    prediction: int | None
    still_fools: bool
    size: float
    inside_budget: bool
    cell: str
    model: str
    data: str
    attack: str
    threat: str
    eps: float
    eps_written: str
    unit: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Entry))


@dataclasses.dataclass(frozen=True)
class Index:
    """The index of an export in `folder`; a chunk whose part is there has all its images."""

    folder: Path

    @property
    def path(self) -> Path:
        """The finished index."""
        return self.folder / INDEX

    def finished(self, asked: Mapping[str, Any]) -> dict[str, int] | None:
        """Return the counts of the export that `asked` describes, where it is finished; nothing is written.

        Raises `BadInput` for a folder with other files, or with another export.
        """
        there = self._facts()
        if there is None:
            self._refuse_strangers()
            return None
        before, wanted = there.get("asked") or {}, json.loads(json.dumps(asked))
        if before != wanted:
            differs = ", ".join(name for name in wanted if before.get(name) != wanted[name])
            raise BadInput(
                f"{self.folder} holds another export (different: {differs}). Nothing is overwritten: use another --out."
            )
        counts: dict[str, int] | None = there.get("counts")
        return counts if self.path.is_file() else None

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Take the folder for the export that `asked` describes, or go on with it. Raises what `finished` does."""
        self.finished(asked)
        if not (self.folder / FACTS).is_file():
            self._note(asked, None)

    def _refuse_strangers(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"{self.folder} is a file. An export needs a folder of its own: use another --out.")
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        strangers = [one.name for one in there if one.name != LOCK and not one.name.startswith(TEMPORARY)]
        if strangers:
            raise BadInput(
                f"{self.folder} holds other files ({', '.join(sorted(strangers)[:3])}). Nothing is overwritten: "
                "use another --out."
            )

    def _facts(self) -> dict[str, Any] | None:
        path = self.folder / FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read: {error}. Use another --out.") from error
        if not isinstance(facts, dict):
            raise BadInput(f"{path} was not written by an export. Use another --out.")
        return facts

    def _note(self, asked: Mapping[str, Any], counts: Mapping[str, int] | None) -> None:
        told = json.dumps({"asked": asked, "counts": counts}, indent=1) + "\n"
        write_atomically(self.folder / FACTS, told.encode())

    def has(self, cell: str, chunk: int) -> bool:
        """Whether a chunk is finished."""
        return self._part(cell, chunk).is_file()

    def add(self, cell: str, chunk: int, entries: list[Entry], differ: int) -> None:
        """Note a chunk's images, and how many results differ from their records; afterwards it is finished."""
        rows = [{"differ": differ}, *(dataclasses.asdict(entry) for entry in entries)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self._part(cell, chunk), text.encode())

    def close(self, asked: Mapping[str, Any]) -> dict[str, int]:
        """Join the parts into the index, in order of cell and chunk, and return what is counted over all of them.

        Counts are `images` (written), `broken` (of them, broken in the run), `fooling` (of these, still fooling the
        model as written), `outside` (of these, beyond the budget as written) and `differ` (made again with another
        status than the record's, and not written).
        """
        counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        temporary = self.folder / f"{TEMPORARY}{os.getpid()}-{INDEX}"
        try:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                for row in self._parts():
                    _count(row, counts)
                    if "file" in row:
                        writer.writerow([_plain(row[name]) for name in COLUMNS])
            temporary.replace(self.path)
            self._note(asked, counts)
            shutil.rmtree(self.folder / _PARTS, ignore_errors=True)
        except OSError as error:
            raise in_words(error, self.path) from error
        return dict(counts)

    def _parts(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / _PARTS).glob("*.jsonl")):
            with path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)

    def _part(self, cell: str, chunk: int) -> Path:
        return self.folder / _PARTS / f"{cell}-{chunk:06d}.jsonl"


def _count(row: Mapping[str, Any], counts: Counter[str]) -> None:
    if "file" not in row:
        counts["differ"] += row["differ"]
        return
    counts["images"] += 1
    if row["status"] == BROKEN:
        counts["broken"] += 1
        counts["fooling"] += row["still_fools"]
        counts["outside"] += row["still_fools"] and not row["inside_budget"]


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
