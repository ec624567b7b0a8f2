"""Where the members of a tar shard lie: found once by reading headers alone, and kept in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

from assay.core.errors import BadInput
from assay.data.stores.objects import Entry, Windowed
from assay.data.stores.place import Place
from assay.files import DiskError, cache_dir, write_atomically

VERSION = 1
"""Raised where an index of the same shard would come out otherwise."""

_BLOCK = 512
_LABEL_ENDS = ("cls", "json", "txt")
_LONGEST_TEXT = 1 << 16
# windows of headers: large ones where members are so small that leaping over them saves nothing
_WINDOW, _WIDE, _SMALL = 1 << 14, 1 << 20, 1 << 14
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard: its name, where its bytes lie, and its text where it is a small one that may hold a label.

    `problem` says why it cannot be read, for links and sparse files.
    """

    name: str
    start: int
    size: int
    text: str | None = None
    problem: str = ""


def members_of(place: Place, shard: Entry) -> tuple[list[Member], str]:
    """Return the members of a shard in the order of the file, and a note on its end or "".

    Raises `BadInput` naming the shard where it is compressed, cut short, damaged, or no tar file.
    """
    kept = _kept(place, shard)
    if kept is not None:
        return kept
    found = _read(place, shard)
    if _tag(place, shard):
        _keep(place, shard, *found)
    return found


def _read(place: Place, shard: Entry) -> tuple[list[Member], str]:
    size = shard.size or 0
    if not size:
        return [], "is empty (0 bytes)"
    raw = Windowed(place, shard.path, size, _WINDOW)
    name = shard.path
    begins = raw.read(6)
    packed = next((kind for magic, kind in _PACKED.items() if begins.startswith(magic)), None)
    if packed is not None:
        raise BadInput(
            f"{name} is compressed by {packed} as a whole: no member of it can be read alone. Unpack it (gunzip, "
            "zstd -d, …) and name the .tar; pictures hardly shrink by it."
        )
    raw.seek(0)
    members: list[Member] = []
    try:
        with tarfile.open(fileobj=raw, mode="r:") as tar:
            starts = _walk(tar, raw, members)
    except tarfile.TarError as error:
        raise BadInput(_damaged(name, size, members, str(error))) from error
    if members and members[-1].start + members[-1].size > size:
        raise BadInput(_damaged(name, size, members, "its last member ends behind the file"))
    return members, _end(raw, starts, name, members)


def _walk(tar: tarfile.TarFile, raw: Windowed, members: list[Member]) -> int:
    """Add the members, and return where the header behind the last one would stand."""
    by_name: dict[str, Member] = {}
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # typeshed lacks it; it would keep all of them
        name = info.name.removeprefix("./")
        if info.isdir():
            continue
        if info.islnk() and info.linkname.removeprefix("./") in by_name:
            one = dataclasses.replace(by_name[info.linkname.removeprefix("./")], name=name)
        elif info.issym() or info.islnk():
            one = Member(name, 0, 0, problem=f"is a link to {info.linkname}; pack the file itself")
        elif info.issparse() or not info.isreg():
            one = Member(name, 0, 0, problem="is a sparse or special file; pack a plain one")
        else:
            one = Member(name, info.offset_data, info.size, _text(info, raw))
        members.append(one)
        by_name[name] = one
        raw.window = _WIDE if (info.offset_data + info.size) / len(members) < _SMALL else _WINDOW
    return int(tar.offset)


def _text(info: tarfile.TarInfo, raw: Windowed) -> str | None:
    if info.name.rpartition(".")[2].lower() not in _LABEL_ENDS or info.size > _LONGEST_TEXT:
        return None
    if info.offset_data + info.size > raw.size:
        return None
    back = raw.tell()
    raw.seek(info.offset_data)
    content = raw.read(info.size)
    raw.seek(back)
    return content.decode("utf-8", "replace")


def _end(raw: Windowed, at: int, name: str, members: list[Member]) -> str:
    """Look at what stands where tarfile stopped: it takes a damaged header for the end of the file."""
    raw.seek(at)
    block = raw.read(_BLOCK)
    if not block:
        return "has no end mark; it may have been cut between two members"
    if len(block) < _BLOCK or block.strip(b"\0"):
        raise BadInput(_damaged(name, raw.size, members, f"no header stands at byte {at}"))
    rest = raw.read(1 << 16)
    if rest.strip(b"\0"):
        raise BadInput(
            f"{name} goes on behind its end mark (byte {at}), as joined tar files do, and what stands there would be "
            "left out. Unpack it and pack it again, or keep the parts as shards of their own."
        )
    return ""


def _damaged(name: str, size: int, members: list[Member], why: str) -> str:
    after = f"after {len(members)} members (the last is {members[-1].name})" if members else "at its beginning"
    fix = "Fetch it again, or leave it out of the names of shards"
    if not members and "end of data" not in why:
        return f"{name} ({size:,} bytes) is no tar file: {why}. Name .tar shards as WebDataset writes them."
    return f"{name} ({size:,} bytes) is cut short or damaged {after}: {why}. {fix}."


def _tag(place: Place, shard: Entry) -> str:
    """Return what changes when a shard does: what the store lists, on this machine its time of change; else ""."""
    local = type(place.fs).__name__ == "LocalFileSystem"
    return f"changed {place.fs.info(shard.path)['mtime']!r}" if local else shard.tag


def _index_file(place: Place, shard: Entry) -> Path:
    told = f"{VERSION}\x1f{type(place.fs).__name__}\x1f{shard.path}\x1f{shard.size}\x1f{_tag(place, shard)}"
    return cache_dir() / "shards" / f"{hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}.parquet"


def _keep(place: Place, shard: Entry, members: list[Member], note: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {field.name: [getattr(one, field.name) for one in members] for field in dataclasses.fields(Member)}
    kinds = {"name": pa.string(), "start": pa.int64(), "size": pa.int64(), "text": pa.string(), "problem": pa.string()}
    schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()], metadata={"note": note})
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")
    try:
        write_atomically(_index_file(place, shard), file.getvalue())
    except DiskError:
        return  # it is made again next time


def _kept(place: Place, shard: Entry) -> tuple[list[Member], str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _index_file(place, shard)
    if not _tag(place, shard) or not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        note = (table.schema.metadata or {}).get(b"note", b"").decode()
        columns = [table[field.name].to_pylist() for field in dataclasses.fields(Member)]
    except (pa.ArrowException, OSError, KeyError):
        return None
    return [Member(*row) for row in zip(*columns, strict=True)], note
