"""Pictures in rows of Parquet files, as Hugging Face's data sets keep them: read by row groups, a few kept."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO, Any, cast

from assay.core.errors import BadInput
from assay.data.dataset import PictureError
from assay.data.held import Held, HeldFiles
from assay.data.stores.objects import Entry, Windowed, patiently, read
from assay.data.stores.place import Place, in_short

_GROUPS = 4
_END = 4096
_WINDOW = 1 << 20


@dataclasses.dataclass(frozen=True)
class ParquetFile:
    """One file: what its footer says, and how to call it."""

    place: Place
    entry: Entry
    name: str
    about: Any
    schema: Any

    @classmethod
    def opened(cls, place: Place, entry: Entry, name: str) -> ParquetFile:
        """Read the footer. Raises `BadInput` where the file is no Parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = patiently(lambda: pq.ParquetFile(_file(place, entry, 1 << 16)))
        except pa.ArrowException as error:
            raise BadInput(f"{entry.path} is no Parquet file, or it is cut short: {in_short(error)}") from error
        return cls(place, entry, name, file.metadata, file.schema_arrow)

    @property
    def features(self) -> dict[str, Any]:
        """What Hugging Face's metadata say of the columns; {} where there are none."""
        try:
            found = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            features = found.get("info", {}).get("features", {})
        except (ValueError, AttributeError):
            return {}
        return features if isinstance(features, dict) else {}

    def column(self, name: str, group: int | None = None) -> list[Any]:
        """Return the values of a column, in one row group or in all."""
        import pyarrow.parquet as pq

        def ask() -> list[Any]:
            file = pq.ParquetFile(_file(self.place, self.entry, _WINDOW), metadata=self.about)
            table = file.read([name]) if group is None else file.read_row_group(group, columns=[name])
            values: list[Any] = table[name].to_pylist()
            return values

        return patiently(ask)

    def digest(self, groups: Sequence[int]) -> bytes:
        """Return a digest of the footer and of the ends of the columns in these row groups."""
        found = hashlib.blake2b(f"{self.entry.size}".encode(), digest_size=16)
        if self.entry.tag:
            found.update(self.entry.tag.encode())
            return found.digest()
        size = self.entry.size or 0
        found.update(self._bytes(max(0, size - (1 << 16)), min(size, 1 << 16)))
        for group in groups:
            row_group = self.about.row_group(group)
            for at in range(row_group.num_columns):
                column = row_group.column(at)
                start = column.dictionary_page_offset or column.data_page_offset
                length = column.total_compressed_size
                found.update(self._bytes(start, min(_END, length)))
                found.update(self._bytes(start + max(0, length - _END), min(_END, length)))
        return found.digest()

    def _bytes(self, start: int, size: int) -> bytes:
        try:
            return read(self.place, self.entry.path, start, size, whole=False)
        except OSError:
            return b"unreadable"


def _file(place: Place, entry: Entry, window: int) -> IO[Any]:
    return cast("IO[Any]", Windowed(place, entry.path, entry.size or 0, window))


class ParquetRows(HeldFiles):
    """The pictures in one column of some files, by row: what a list of paths is to the readers of pictures."""

    def __init__(self, files: Sequence[ParquetFile], column: str, ids: Sequence[str]) -> None:
        self.files = files
        self.column = column
        self.ids = ids
        self._groups: list[tuple[int, int]] = []
        self._starts: list[int] = []
        at = 0
        for number, file in enumerate(files):
            for group in range(file.about.num_row_groups):
                self._groups.append((number, group))
                self._starts.append(at)
                at += file.about.row_group(group).num_rows
        self._rows = at
        self._paths: dict[int, bool] = {}
        self._kept: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_kept": OrderedDict()}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._rows

    def fetch(self, at: int) -> Held:
        """Return the file at a place from 0 on; see `HeldFiles`."""
        number = bisect.bisect_right(self._starts, at) - 1
        try:
            value = self._group(number)[at - self._starts[number]]
        except Exception as error:
            raise PictureError(f"{self.ids[at]}: could not be read: {in_short(error)}") from error
        return self._picture(value, at, self.files[self._groups[number][0]])

    def _group(self, number: int) -> list[Any]:
        with self._lock:
            if number not in self._kept:
                file, group = self._groups[number]
                self._kept[number] = self.files[file].column(self.column, group)
                while len(self._kept) > _GROUPS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _picture(self, value: Any, at: int, file: ParquetFile) -> Held:
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        name = (path or "").rpartition("/")[2] or self.ids[at]
        if isinstance(content, bytes):
            return Held(name, content)
        if not path:
            raise PictureError(f"{self.ids[at]}: the row has neither the bytes nor the path of a picture")
        beside = f"{file.entry.path.rpartition('/')[0]}/{path}"
        try:
            return Held(name, read(file.place, beside))
        except Exception as error:
            raise PictureError(f"{self.ids[at]}: {path} could not be read: {in_short(error)}") from error

    def content(self, positions: Sequence[int], reading: str) -> str:
        """Return a digest that names the files of these rows, by their footers and the ends of their columns."""
        digest = hashlib.blake2b(f"{self.column} {reading}".encode(), digest_size=16)
        groups = sorted({bisect.bisect_right(self._starts, at) - 1 for at in positions})
        for number, file in enumerate(self.files):
            own = [self._groups[one][1] for one in groups if self._groups[one][0] == number]
            if own:
                digest.update(file.digest(own))
        for at in positions:
            if self._by_path(bisect.bisect_right(self._starts, at) - 1):
                digest.update(self._whole(at))
        return digest.hexdigest()

    def _by_path(self, number: int) -> bool:
        """Whether some pictures of a row group are paths of files beside it, which its own bytes say nothing about."""
        if number not in self._paths:
            file, group = self._groups[number]
            about = self.files[file].about.row_group(group)
            columns = [about.column(at) for at in range(about.num_columns)]
            leaf = next((one for one in columns if one.path_in_schema == f"{self.column}.bytes"), None)
            missing = leaf is not None and (leaf.statistics is None or leaf.statistics.null_count != 0)
            self._paths[number] = missing and any(not one or not one.get("bytes") for one in self._group(number))
        return self._paths[number]

    def _whole(self, at: int) -> bytes:
        try:
            return hashlib.blake2b(self[at].content, digest_size=16).digest()
        except PictureError:
            return b"unreadable"

    def named_by(self) -> tuple[str, ...]:
        """Say what the fingerprint is made of, where it is not as on this machine."""
        if not all(file.entry.tag for file in self.files):
            return ()
        return (
            f"The fingerprint of the data is that of the listing of {self.files[0].place.url} (checksum and size of "
            "each file, as the store keeps them): the pictures were not read for it.",
        )
