"""Tables of pictures and labels: comma-separated, tab-separated, Parquet and JSON Lines."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.data.class_orders import Folders, numbered, renumberings
from assay.data.dataset import Source
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import SEVERAL_LABELS, Labelling, Vocabulary, columns_of_labels, label_folders, lists_of_labels
from assay.data.pictures import USUAL, picture_endings
from assay.data.spec import take_apart
from assay.data.written_labels import READING, Written
from assay.models.classifier import Classifier

_FORMATS = ".csv, .tsv, .parquet, .jsonl"


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a file. `first` is the number that people give to row 0: its line, where the file has lines."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.rows)

    def text(self, column: str, row: int) -> str:
        """Return a value as text, without spaces around it; "" where there is none."""
        value = self.rows[row].get(column)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, bool):
            return str(int(value))
        return str(value).strip()

    def places(self, rows: Sequence[int]) -> str:
        """Return the lines of some rows, in words."""
        return (
            f"line {self.lines[rows[0]]}" if len(rows) == 1 else f"lines {', '.join(str(self.lines[r]) for r in rows)}"
        )


def read_table(path: Path) -> Table:
    """Return the table in a file. Raises `BadInput` for an unknown ending, a damaged file, and one without rows."""
    end = path.suffix.lower()
    try:
        if end in (".csv", ".tsv", ".txt"):
            found = _separated(path)
        elif end in (".jsonl", ".ndjson", ".json"):
            found = _json_lines(path)
        elif end in (".parquet", ".pq"):
            found = _parquet(path)
        else:
            raise BadInput(f"{path.name} ends in {end or 'nothing'}; expected a table: {_FORMATS}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The table {path} cannot be read: {error}.") from error
    if not found.rows:
        raise BadInput(f"The table {path} has no rows below its header.")
    return found


def _separated(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=_delimiter(path, head), restkey=None)
        columns = tuple(reader.fieldnames or ())
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise BadInput(f"{path.name} has two columns called {twice!r}. Rename one.")
        rows, lines = [], []
        for row in reader:
            if None in row:
                raise BadInput(f"Line {reader.line_num} of {path.name} has more values than the header has columns.")
            rows.append(row)
            lines.append(reader.line_num)
    return Table(path, columns, tuple(rows), tuple(lines))


def _delimiter(path: Path, head: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=head.count)


def _json_lines(path: Path) -> Table:
    rows, lines = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"Line {number} of {path.name} is no JSON: {error}. Write one object per line.") from error
        if not isinstance(row, dict):
            raise BadInput(f"Line {number} of {path.name} is {type(row).__name__}; expected one object per line.")
        rows.append(row)
        lines.append(number)
    columns = dict.fromkeys(str(key) for row in rows for key in row)
    return Table(path, tuple(columns), tuple(rows), tuple(lines))


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise BadInput(f"The table {path} cannot be read: {error}.") from error
    rows = tuple(table.to_pylist())
    return Table(path, tuple(table.column_names), rows, tuple(range(1, len(rows) + 1)))


OPTIONS = frozenset({"image", "label", "root", "target", "order"}) | READING
_IMAGE = (
    "image",
    "picture",
    "path",
    "file",
    "filename",
    "file_name",
    "image_path",
    "filepath",
    "image_id",
    "img",
    "id",
)
_LABEL = ("label", "class", "target", "category", "label_id", "class_name", "y")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of the columns that matter."""

    image: str
    label: str | None
    target: str | None


def table(name: str, model: Classifier | None, *, labelled: bool = True) -> Source:
    """Return the pictures that a table names, with its labels; ids are the paths as the table has them.

    Options: `image` and `label` (columns; guessed where that is obvious), `root` (the folder that paths start from;
    the table's own), `target` (a column of classes to aim at), and `order`, `white` and `orientation`, which mean what
    they do for folders. Raises `BadInput` naming the row of what is missing, blank, or there twice with two labels.
    Where they are not `labelled`, no column of labels is needed.
    """
    plain, options = take_apart(name, OPTIONS)
    written = Written(f"table:{plain}", options)
    rows = read_table(_existing(plain))
    columns = _columns(rows, options, labelled=labelled)
    paths, where = _paths(rows, columns, options.get("root"))
    kept, notes = _without_repeats(rows, columns, where)
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    names = _names(rows, columns.label, kept) if columns.label else ["0"] * len(kept)
    aims = _names(rows, columns.target, kept) if columns.target else []
    classes = tuple(sorted({*names, *aims}))
    labelling = _labelled(rows, columns, classes, vocabulary, options.get("order") if columns.label else None)
    folders = Folders(classes, classes)
    files = LabelledFiles(
        paths,
        tuple(where[row] for row in kept),
        tuple(labelling.label_of[one] for one in names),
        labelling.classes,
        (*notes, *labelling.notes),
        written,
        renumberings(folders, labelling.label_of, lambda order: written.advise("order", order)),
    )
    targets = tuple(labelling.label_of[one] for one in aims) if columns.target else None
    return dataclasses.replace(files.source(model), targets=targets)


def _existing(written: str) -> Path:
    if not written:
        raise BadInput("'table:' names no file; write table:labels.csv.")
    path = Path(written).expanduser()
    if not path.is_file():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(f"There is no table {path}.{did_you_mean(path.name, there)}")
    return path


def _columns(rows: Table, options: dict[str, str], *, labelled: bool) -> Columns:
    for role in ("image", "label", "target"):
        column = options.get(role)
        if column is not None and column not in rows.columns:
            near = did_you_mean(column, rows.columns)
            raise BadInput(f"{rows.name} has no column {column!r}.{near} It has {', '.join(rows.columns)}.")
    image = options.get("image") or _guessed(rows, _IMAGE, "image", [])
    if not labelled:
        return Columns(image, None, None)
    label = options.get("label") or _guessed(rows, _LABEL, "label", [image, options.get("target", "")])
    return Columns(image, label, options.get("target"))


def _guessed(rows: Table, usual: Sequence[str], role: str, taken: Sequence[str]) -> str:
    plain = {name.strip().lower(): name for name in rows.columns if name not in taken}
    found = [plain[name] for name in usual if name in plain]
    # the plain word is meant where it is there: image beside id, label beside class
    if len(found) == 1 or (found and found[0].strip().lower() == role):
        return found[0]
    rest = [name for name in rows.columns if name not in taken]
    if not found and role == "label" and len(rest) == 1:
        return rest[0]
    told = f"several columns that may be the {role} ({', '.join(found)})" if found else f"no column called {usual[0]}"
    others = {name: [rows.text(name, row) for row in range(len(rows))] for name in plain.values()} if not found else {}
    flags = columns_of_labels(others) if role == "label" else []
    more = f" If {', '.join(flags[:3])} say which labels an image has: {SEVERAL_LABELS}" if len(flags) > 1 else ""
    raise BadInput(
        f"{rows.name} has {told}. Say which one it is: table:{rows.path}?{role}=COLUMN. "
        f"It has {', '.join(rows.columns)}.{more}"
    )


def _paths(rows: Table, columns: Columns, root: str | None) -> tuple[Path, list[str]]:
    """Return the folder that paths start from, and each row's path there. Raises `BadInput` for missing files."""
    written = [rows.text(columns.image, row) for row in range(len(rows))]
    blank = [row for row, one in enumerate(written) if not one]
    if blank:
        raise BadInput(f"{rows.places(blank)} names no picture in the column {columns.image!r}. Fill it in.")
    own = rows.path.parent
    start = own if root is None else own / Path(root).expanduser()
    if not start.is_dir():
        raise BadInput(f"There is no folder {start} (from root={root}); it is relative to the table.")
    places = [start] if root is not None else [start, *sorted(one for one in own.iterdir() if one.is_dir())]
    for place in places:
        found = [_file(place, one) for one in written]
        if all(found):
            return place, [one for one in found if one]
        if any(found) or place == places[-1]:
            break
    lost = [row for row, one in enumerate(written) if not _file(start, one)]
    raise BadInput(
        f"{len(lost)} of the {len(written)} pictures of {rows.name} are not under {start}; the first is "
        f"{written[lost[0]]!r} ({rows.places(lost[:1])}). If paths start elsewhere, say where, relative to the table: "
        f"table:{rows.path}?root=FOLDER."
    )


def _file(root: Path, written: str) -> str | None:
    """Return the path of a picture under `root`, where it is; a name without its ending is one too."""
    name = written.replace("\\", "/") if not (root / written).is_file() else written
    for end in ("", *USUAL, *sorted(picture_endings() - set(USUAL))):
        if (root / (name + end)).is_file():
            return _relative(root, name + end)
    return None


def _relative(root: Path, name: str) -> str:
    # an id must be the same on every machine
    path = Path(name)
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else path.as_posix()


def _without_repeats(rows: Table, columns: Columns, where: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the rows to keep, one per picture, and notes. Raises `BadInput` for one picture with two labels."""
    first: dict[str, int] = {}
    for row, file in enumerate(where):
        before = first.setdefault(file, row)
        for column in filter(None, (columns.label, columns.target)):
            if rows.text(column, row) != rows.text(column, before):
                raise BadInput(
                    f"{rows.places([before, row])} of {rows.name} both name {file!r}, with {column} "
                    f"{rows.text(column, before)!r} and {rows.text(column, row)!r}. Leave one out. {SEVERAL_LABELS}"
                )
    repeated = len(where) - len(first)
    return list(first.values()), [f"{repeated} rows of {rows.name} repeat a picture; each was taken once."] * bool(
        repeated
    )


def _names(rows: Table, column: str, kept: Sequence[int]) -> list[str]:
    """Return the class of each row as it is written; a whole number that was stored with a fraction is one again."""
    written = [rows.text(column, row) for row in kept]
    blank = [row for row, one in zip(kept, written, strict=True) if not one]
    if blank:
        raise BadInput(
            f"{len(blank)} of the {len(kept)} rows of {rows.name} have nothing in the column {column!r}: "
            f"{rows.places(blank[:5])}. Fill them in, or leave these rows out."
        )
    if all(_is_whole(one) for one in written):
        return [one.partition(".")[0] for one in written]
    return written


def _is_whole(text: str) -> bool:
    head, _, tail = text.partition(".")
    return head.isdecimal() and tail.strip("0") == ""


def _labelled(
    rows: Table, columns: Columns, names: tuple[str, ...], vocabulary: Vocabulary | None, order: str | None
) -> Labelling:
    shifted = [one for one in names if one.startswith("-") and one[1:].isdecimal()]
    if shifted:
        raise BadInput(
            f"The column {columns.label!r} of {rows.name} has the label {shifted[0]}; labels count from 0. Leave "
            "unlabelled rows out, or write class names."
        )
    listed = lists_of_labels(names)
    if listed is not None:
        raise BadInput(
            f"The column {columns.label!r} of {rows.name} lists several labels: {listed!r}. {SEVERAL_LABELS}"
        )
    if order is None:
        return _in_words(rows, columns, lambda: label_folders(names, vocabulary))

    def ordered() -> Labelling:
        labels, classes = numbered(Folders(names, names), order)
        return Labelling(labels, vocabulary.classes if vocabulary else classes)

    return _in_words(rows, columns, ordered)


def _in_words(rows: Table, columns: Columns, labelled: Callable[[], Labelling]) -> Labelling:
    where = f"Column {columns.label!r} of {rows.name}, whose classes are read as the names of class folders are"
    try:
        found = labelled()
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    return dataclasses.replace(found, notes=tuple(f"{where}: {note}" for note in found.notes))
