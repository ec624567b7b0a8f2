"""A folder of pictures in a store: its listing, as that of a folder on this machine, and the files behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from assay.data.folder_scan import Listing, listed
from assay.data.stores.objects import Entry, entry, files_below, patiently
from assay.data.stores.pieces import FarFiles, Piece, in_threads
from assay.data.stores.place import Place, place_of


@dataclasses.dataclass(frozen=True)
class FarFolder:
    """A folder of a store, the pictures below it, and every file by its relative path."""

    place: Place
    listing: Listing
    entries: dict[str, Entry]

    def files(self, names: Sequence[str]) -> FarFiles:
        """Return files by their relative paths."""
        entries = self._known([self.entries[name] for name in names])
        pieces = [Piece(one.path, one.size, one.tag) for one in entries]
        return FarFiles(self.place, [name.rpartition("/")[2] for name in names], pieces)

    def _known(self, entries: list[Entry]) -> list[Entry]:
        """Return entries with what the store says of each file, where a listing is of names alone (web servers)."""
        if all(one.size is not None for one in entries):
            return entries
        return [future.result() for future in in_threads([_about(self.place, one) for one in entries])]


def _about(place: Place, one: Entry) -> Callable[[], Entry]:
    def ask() -> Entry:
        try:
            return entry(one.path, patiently(lambda: place.fs.info(one.path)))
        except Exception:
            return one  # reading it says why

    return ask


def far_folder(url: str, scheme: str) -> FarFolder:
    """Return the folder at a URL. Raises `BadInput` and `Unavailable` where it cannot be listed."""
    place = place_of(url, scheme)
    files, folders = files_below(place, scheme)
    entries = {place.relative(one.path): one for one in files}
    return FarFolder(place, listed(tuple(entries), [place.relative(one) for one in folders]), entries)
