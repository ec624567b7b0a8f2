"""`hf-data:DIR`: data sets of Hugging Face as Parquet files on this machine, or in a store; read by pyarrow alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.errors import BadInput, did_you_mean
from assay.data.dataset import Source
from assay.data.known_labels import LABEL_KEYS
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import Labelling, Vocabulary, label_folders
from assay.data.spec import take_apart
from assay.data.stores.objects import Entry, entry, files_below, patiently
from assay.data.stores.parquet_rows import ParquetFile, ParquetRows
from assay.data.stores.pieces import in_threads
from assay.data.stores.place import Place, place_of, refuse_credentials
from assay.data.written_labels import READING, Written
from assay.files import is_far
from assay.models.classifier import Classifier

OPTIONS = READING | {"image", "label", "split", "numbers"}
_ENDS = (".parquet", ".pq")
# train-00000-of-00002.parquet, data/test-0.parquet, plain_text/validation/0000.parquet
_PART = re.compile(r"[-_.]\d+([-_.]of[-_.]\d+)?.*$")
_SPLITS = ("train", "validation", "valid", "val", "test", "dev")


def parquet_images(name: str, model: Classifier | None, *, labelled: bool = True) -> Source:
    """Return the pictures of a Parquet file, or of a folder of them, under the ids `file/row`.

    Options: `split` (where the folder holds several), `image` and `label` (columns; found where that is obvious),
    `numbers` (own: the labels are the model's numbers, whatever the names say), `white` and `orientation`. Raises
    `BadInput` saying what is there where a column or split cannot be told, and where names of classes contradict those
    of the model.
    """
    refuse_credentials(name)
    plain, options = take_apart(name, OPTIONS)
    written = Written(f"hf-data:{plain}", options)
    place, entries = _files(plain, options, written)
    files = [_opened(place, one) for one in entries]
    if len({one.name for one in files}) < len(files):
        files = [_opened(place, one, whole=True) for one in entries]
    image = _image_column(files[0], options, written)
    _check_same(files, image)
    ids = tuple(f"{file.name}/{row}" for file in files for row in range(file.about.num_rows))
    if not ids:
        raise BadInput(f"{plain} has no rows.")
    rows = ParquetRows(files, image, ids)
    if labelled:
        labelling, labels = _labelled(files, _label_column(files[0], image, options, written), options, model)
    else:
        labelling, labels = Labelling({}, None), (0,) * len(ids)
    notes = (*labelling.notes, *rows.named_by())
    return LabelledFiles(place.url, ids, labels, labelling.classes, notes, written, far=rows).source(model)


def _files(plain: str, options: Mapping[str, str], written: Written) -> tuple[Place, list[Entry]]:
    if not plain:
        raise BadInput("'hf-data:' names no folder; write hf-data:DIR, a folder of Parquet files.")
    place = place_of(plain, "hf-data:")
    try:
        about = patiently(lambda: place.fs.info(place.path))
    except Exception:
        about = {"type": "directory"}  # listing it says why
    if about.get("type") != "directory" and plain.lower().endswith(_ENDS):
        return place, [entry(place.path, about)]
    if not is_far(plain) and not place.fs.isdir(place.path):
        hub = plain.count("/") == 1 and not plain.startswith((".", "/", "~"))
        fix = (
            f" Data sets of the hub are read from a copy: hf download --repo-type dataset {plain} --local-dir DIR, "
            "then hf-data:DIR."
            if hub
            else ""
        )
        raise BadInput(f"There is no folder or Parquet file {plain} (from 'hf-data:{plain}').{fix}")
    found, _ = files_below(place, "hf-data:")
    tables = sorted((one for one in found if one.path.lower().endswith(_ENDS)), key=lambda one: one.path)
    if not tables:
        arrow = any(one.path.endswith(".arrow") for one in found)
        fix = " It holds .arrow files: write them as Parquet by dataset.to_parquet('file.parquet')." if arrow else ""
        raise BadInput(f"There is no Parquet file (.parquet) under {plain}.{fix}")
    return place, _one_split(place, tables, options.get("split"), written)


def _one_split(place: Place, tables: list[Entry], asked: str | None, written: Written) -> list[Entry]:
    splits: dict[str, list[Entry]] = {}
    for one in tables:
        splits.setdefault(_split_of(place.relative(one.path)), []).append(one)
    if asked is not None:
        if asked not in splits:
            near = did_you_mean(asked, splits)
            raise BadInput(f"There is no split {asked!r} in {place.url}.{near} There are: {', '.join(sorted(splits))}.")
        return splits[asked]
    if len(splits) > 1:
        best = next((one for one in ("test", "validation", "val") if one in splits), sorted(splits)[0])
        raise BadInput(
            f"{place.url} holds several splits: {', '.join(sorted(splits))}. Say which one: "
            f"{written.advise('split', best)}."
        )
    return tables


def _split_of(path: str) -> str:
    """Return the split that a file belongs to: its folder where that is called like one, or the name before its number.

    A file without either is a split of its own name.
    """
    *folders, file = path.split("/")
    named = next((one for one in reversed(folders) if one.lower() in _SPLITS), None)
    stem = file.rpartition(".")[0]
    begins = next((one for one in _SPLITS if re.match(rf"{one}($|[-_.])", stem.lower())), None)
    return named or begins or _PART.sub("", stem) or "all"


def _opened(place: Place, one: Entry, *, whole: bool = False) -> ParquetFile:
    stem = one.path.rpartition(".")[0]
    name = place.relative(stem) if whole else stem.rpartition("/")[2]
    return ParquetFile.opened(place, one, name)


def _is_picture(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(at).name for at in range(kind.num_fields)}
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _image_column(file: ParquetFile, options: Mapping[str, str], written: Written) -> str:
    columns = file.schema.names
    asked = options.get("image")
    if asked is not None:
        _check_there(file, asked)
        if not _is_picture(file.schema.field(asked).type):
            kind = file.schema.field(asked).type
            raise BadInput(f"The column {asked!r} of {file.name} holds {kind}; expected pictures (their bytes).")
        return asked
    found = [name for name in columns if _is_picture(file.schema.field(name).type)]
    if len(found) == 1:
        return str(found[0])
    if "image" in found:
        return "image"
    told = (
        f"several columns of pictures: {', '.join(found)}" if found else "no column of pictures (struct of bytes, path)"
    )
    fix = f" Say which one: {written.advise('image', found[0])}." if found else f" It has {', '.join(columns)}."
    raise BadInput(f"{file.name} has {told}.{fix}")


def _label_column(file: ParquetFile, image: str, options: Mapping[str, str], written: Written) -> str:
    import pyarrow.types as kinds

    asked = options.get("label")
    if asked is not None:
        _check_there(file, asked)
        return asked
    features = file.features
    named = [name for name in file.schema.names if _class_names(features.get(name)) is not None]
    found = named or [
        name for name in file.schema.names
        if name != image and name.lower() in LABEL_KEYS
        and (kinds.is_integer(file.schema.field(name).type) or kinds.is_string(file.schema.field(name).type))
    ]  # fmt: skip
    if len(found) == 1 or "label" in found:
        return "label" if "label" in found else str(found[0])
    told = f"several columns of labels: {', '.join(found)}" if found else "no column that is known to hold labels"
    fix = written.advise("label", found[0] if found else "COLUMN")
    raise BadInput(f"{file.name} has {told}. Say which one: {fix}. It has {', '.join(file.schema.names)}.")


def _check_there(file: ParquetFile, column: str) -> None:
    if column not in file.schema.names:
        near = did_you_mean(column, file.schema.names)
        raise BadInput(f"{file.name} has no column {column!r}.{near} It has {', '.join(file.schema.names)}.")


def _check_same(files: Sequence[ParquetFile], image: str) -> None:
    for file in files[1:]:
        if file.schema.names != files[0].schema.names:
            raise BadInput(
                f"{file.name} has the columns {', '.join(file.schema.names)}, and {files[0].name} has "
                f"{', '.join(files[0].schema.names)}. Name files of one data set."
            )


def _class_names(feature: Any) -> tuple[str, ...] | None:
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return tuple(map(str, feature["names"]))
    return None


def _labelled(
    files: Sequence[ParquetFile], column: str, options: Mapping[str, str], model: Classifier | None
) -> tuple[Labelling, tuple[int, ...]]:
    read = [future.result() for future in in_threads([_Column(file, column) for file in files])]
    values = [value for some in read for value in some]
    bad = next((at for at, one in enumerate(values) if isinstance(one, bool) or not isinstance(one, int | str)), None)
    if bad is not None:
        raise BadInput(
            f"Row {bad} of the column {column!r} is {values[bad]!r}; expected a class number or a class name. Leave "
            "rows without a label out, or measure without labels (labels: predicted)."
        )
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    if all(isinstance(one, str) for one in values):
        labelling = label_folders(tuple(sorted(set(values))), vocabulary)
        return labelling, tuple(labelling.label_of[one] for one in values)
    wrong = next((at for at, one in enumerate(values) if isinstance(one, str) or one < 0), None)
    if wrong is not None:
        raise BadInput(f"Row {wrong} of the column {column!r} is {values[wrong]!r}; expected class numbers from 0 on.")
    names = _class_names(files[0].features.get(column))
    new, labelling = _by_number(names, vocabulary, options)
    if names is not None and max(values) >= len(names):
        raise BadInput(f"A label in {column!r} is {max(values)}, and the file names {len(names)} classes.")
    return labelling, tuple(new.get(one, one) for one in values)


class _Column:
    def __init__(self, file: ParquetFile, column: str) -> None:
        self._file, self._column = file, column

    def __call__(self) -> list[Any]:
        return self._file.column(self._column)


def _by_number(
    names: tuple[str, ...] | None, vocabulary: Vocabulary | None, options: Mapping[str, str]
) -> tuple[dict[int, int], Labelling]:
    """Return the model's number of each of the file's, where they differ, and what the labels are called."""
    numbers = options.get("numbers", "by-name")
    if numbers not in ("own", "by-name"):
        raise BadInput(f"numbers is {numbers!r}; expected own or by-name.{did_you_mean(numbers, ('own', 'by-name'))}")
    if names is None or vocabulary is None or numbers == "own":
        return {}, Labelling({}, vocabulary.classes if vocabulary else names)
    known: dict[str, int] = {}
    for list_of_names in filter(None, (vocabulary.classes, vocabulary.synsets)):
        plain = [_plain(name) for name in list_of_names]
        # ImageNet has two classes called crane: such names say nothing
        known |= {name: at for at, name in enumerate(plain) if plain.count(name) == 1}
    found = {at: known[_plain(name)] for at, name in enumerate(names) if _plain(name) in known}
    if all(at == other for at, other in found.items()):
        if found or len(names) > len(vocabulary.classes):
            return {}, Labelling({}, vocabulary.classes)
        note = (
            f"None of the {len(names)} class names in the file ({', '.join(names[:3])}) is one of the model's "
            f"({', '.join(vocabulary.classes[:3])}): its numbers are taken as the model's."
        )
        return {}, Labelling({}, vocabulary.classes, (note,))
    if len(found) == len(names):
        at = next(at for at, other in found.items() if at != other)
        note = (
            f"The file numbers its classes otherwise than the model: {names[at]} is {at} there and {found[at]} here. "
            "Labels go by the names (numbers=own takes the numbers as they are)."
        )
        return found, Labelling({}, vocabulary.classes, (note,))
    at = next(at for at, other in found.items() if at != other)
    lost = next(name for one, name in enumerate(names) if one not in found)
    raise BadInput(
        f"The class {names[at]!r} is {at} in the file and {found[at]} in the model, and {lost!r} is no class of the "
        f"model.{did_you_mean(lost, vocabulary.classes)} If the numbers are the model's all the same, say numbers=own."
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()
