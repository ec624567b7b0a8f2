"""Files of a store copied to this machine, for readers that need them here: what stays the same is fetched once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any

from assay.data.stores.objects import Entry, files_below, in_words, read
from assay.data.stores.pieces import in_threads
from assay.data.stores.place import Place, place_of
from assay.files import cache_dir, is_far, make_folder, write_atomically

_KNOWN = "copied.json"
_TRIES = 5


def copied(url: str, parts: tuple[str, ...], kind: str = "copies") -> Path:
    """Return a folder of the cache that holds what lies below a URL: of files and folders there, those named `parts`.

    A file is fetched again unless the store names its content, by the same name as before. Raises `BadInput` where
    there is nothing or it may not be read, `Unavailable` where the store does not answer, `DiskError`.
    """
    place = place_of(url, "")
    folder = cache_dir() / kind / hashlib.blake2b(place.url.encode(), digest_size=12).hexdigest()
    make_folder(folder)
    for attempt in range(_TRIES):
        try:
            _Copy(place, folder, parts).bring()
            break
        except FileNotFoundError as error:
            # a run that goes on replaces files; a new listing has those that are there
            if attempt == _TRIES - 1:
                raise in_words(place, "", error) from error
    return folder


@dataclasses.dataclass(frozen=True)
class _Copy:
    place: Place
    folder: Path
    parts: tuple[str, ...]

    def bring(self) -> None:
        files, _ = files_below(self.place, "")
        there = {self.place.relative(one.path): one for one in files}
        there = {name: one for name, one in there.items() if self._is_wanted(name)}
        known = self._known()
        for path in [path for path in self.folder.rglob("*") if path.is_file()]:
            name = path.relative_to(self.folder).as_posix()
            if self._is_wanted(name) and name not in there:
                path.unlink(missing_ok=True)
        missing = {name: one for name, one in there.items() if not self._is_here(name, one, known)}
        told = {name: [one.size, one.tag] for name, one in there.items() if name not in missing}
        self._keep(told)
        asked: dict[str, Future[None]] = dict(
            zip(missing, in_threads([self._fetching(name, one) for name, one in missing.items()]), strict=True)
        )
        try:
            for name, future in asked.items():
                future.result()
                told[name] = [there[name].size, there[name].tag]
        finally:
            for future in asked.values():
                future.cancel()
            self._keep(told)

    def _is_wanted(self, name: str) -> bool:
        steps = PurePosixPath(name).parts
        # what a store calls its files must not lead out of the folder
        inside = not name.startswith("/") and ".." not in steps and "\\" not in name
        return inside and bool(steps) and steps[0] in self.parts and not steps[-1].startswith(".")

    def _is_here(self, name: str, one: Entry, known: dict[str, Any]) -> bool:
        path = self.folder / name
        same = bool(one.tag) and known.get(name) == [one.size, one.tag]
        return same and path.is_file() and path.stat().st_size == one.size

    def _fetching(self, name: str, one: Entry) -> Callable[[], None]:
        def fetch() -> None:
            try:
                content = read(self.place, one.path, size=one.size)
            except FileNotFoundError:
                raise
            except Exception as error:
                raise in_words(self.place.at(one.path), "", error) from error
            write_atomically(self.folder / name, content)

        return fetch

    def _known(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.folder / _KNOWN).read_bytes())
            return found if isinstance(found, dict) else {}
        return {}

    def _keep(self, told: dict[str, Any]) -> None:
        write_atomically(self.folder / _KNOWN, json.dumps(told).encode())


__all__ = ["copied", "is_far"]
