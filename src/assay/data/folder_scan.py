"""All picture files below a folder: every folder read once, whatever links lead to it, and every other file counted."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from assay.data.pictures import ending_by_content, picture_endings, way_out

# what operating systems leave behind in folders; nobody counts these among their pictures
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep", ".gitignore"})
_SHOWN = 3
_LOOKED_INTO = 20  # kinds of endings, one file of each

Key = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Listing:
    """What lies below a folder; paths are relative to it, with forward slashes.

    `files_in` are the sorted pictures in each of its folders, at any depth, in the order of these top folders; `loose`
    those in no folder, and `hidden` the names of hidden top folders. `pictures_in` counts the pictures that lie in each
    folder itself. `notes` say what was left out, and what is there twice.
    """

    files_in: dict[str, list[str]]
    loose: tuple[str, ...]
    hidden: tuple[str, ...]
    pictures_in: dict[str, int]
    notes: tuple[str, ...]


def scan(root: Path) -> Listing:
    """Return the pictures below `root` and notes about everything else there."""
    walk = _Walk(picture_endings())
    walk.visited.update(_key(folder) for folder in (root.resolve(), *root.resolve().parents))
    top, links, loose = walk.read(str(root), "")
    for name in top:
        walk.below(f"{root}/{name}", f"{name}/")
    walk.links[:0] = links
    walk.follow(str(root))
    files_in = {folder: sorted(walk.found.get(folder, ())) for folder in sorted({*top, *links})}
    return Listing(files_in, tuple(loose), tuple(sorted(walk.hidden_tops)), walk.pictures_in, walk.notes())


def listed(files: Sequence[str], folders: Sequence[str]) -> Listing:
    """Return the same of a store's listing: of all its files and (as far as it has any) folders, by relative paths."""
    walk = _Walk(picture_endings())
    names: dict[str, list[str]] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    within = {*names, *folders}
    tops = {path.split("/")[0] for path in within if path}
    walk.hidden_tops += [name for name in tops if name[0] == "."]
    files_in: dict[str, list[str]] = {name: [] for name in sorted(tops) if name[0] != "."}
    loose = walk.pictures(names.get("", []), "")
    for folder in sorted(names):
        if folder and not any(part[:1] == "." for part in folder.split("/")):
            pictures = walk.pictures(names[folder], f"{folder}/")
            files_in[folder.split("/")[0]] += pictures
            walk.pictures_in |= {folder: len(pictures)} if pictures else {}
    ordered = {name: sorted(found) for name, found in files_in.items()}
    return Listing(ordered, tuple(loose), tuple(sorted(walk.hidden_tops)), walk.pictures_in, walk.notes())


def pictures_under(folder: Path) -> list[str]:
    """Return the relative paths (with forward slashes) of all picture files under `folder`, sorted; none hidden."""
    return all_pictures(scan(folder))


def all_pictures(found: Listing) -> list[str]:
    """Return the pictures of a listing, whatever folder they lie in, sorted."""
    return sorted((*found.loose, *(file for files in found.files_in.values() for file in files)))


def _key(path: str | Path) -> Key:
    # paths are plain strings here, as os.scandir gives them
    about = os.stat(path)  # noqa: PTH116
    return about.st_dev, about.st_ino


class _Walk:
    """The state of one walk: real folders first, so that a picture goes by the name it has without links."""

    def __init__(self, endings: frozenset[str]) -> None:
        self.visited: set[Key] = set()
        self.links: list[str] = []
        self.found: dict[str, list[str]] = {}
        self.pictures_in: dict[str, int] = {}
        self.hidden_tops: list[str] = []
        self._endings = endings
        self._left_out: Counter[str] = Counter()
        self._example: dict[str, str] = {}
        self._hidden = 0
        self._again: list[str] = []
        self._unlisted: list[str] = []
        self._linked: dict[str, str] = {}
        self._root = ""

    def read(self, path: str, prefix: str) -> tuple[list[str], list[str], list[str]]:
        """Return the names of real folders in one folder, the paths of linked ones, and the paths of its pictures."""
        folders, links = [], []
        with os.scandir(path) as entries:
            # a list each of one expression, and the rest only where there is any: this is where the time goes
            others: list[os.DirEntry[str]] = []
            keep = others.append
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False) or keep(entry)]
        for entry in others:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_dir():
                links.append(entry.name)
            else:  # a link to a file, or to nothing: reading it will say so
                names.append(entry.name)
                self._linked[prefix + entry.name] = entry.path
        if not prefix:
            self.hidden_tops += [name for name in (*folders, *links) if name[0] == "."]
        folders = sorted(name for name in folders if name[0] != ".")
        return folders, [prefix + name for name in sorted(links) if name[0] != "."], self.pictures(names, prefix)

    def pictures(self, names: list[str], prefix: str) -> list[str]:
        """Return the paths of the pictures among the names of one folder, sorted; the others are counted."""
        pictures = self._common_endings(names)
        if pictures is None:
            pictures = {ending for ending in map(_ending, names) if ending.lower() in self._endings}
            names = [name for name in names if self._is_taken(name, prefix, pictures)]
        names.sort()
        return [prefix + name for name in names]

    def _common_endings(self, names: list[str]) -> set[str] | None:
        """Return the endings that all names have, where a few are found in all and none is hidden; None otherwise.

        Counting inside one long text is ten times as fast as looking at every name.
        """
        joined = f"/{'/'.join(names)}/"
        endings = {_ending(name) for name in names[:4]}
        counted = sum(joined.count(f"{ending}/") for ending in endings if ending.lower() in self._endings)
        return endings if counted == len(names) and "/." not in joined else None

    def _is_taken(self, name: str, prefix: str, pictures: set[str]) -> bool:
        ending = _ending(name)
        if ending in pictures and name[0] != ".":
            return True
        if name not in _LITTER and not name.startswith("._"):
            self._leave_out(name, prefix, ending)
        return False

    def _leave_out(self, name: str, prefix: str, ending: str) -> None:
        if name[0] == ".":
            self._hidden += 1
        else:
            self._left_out[ending.lower()] += 1
            self._example.setdefault(ending.lower(), prefix + name)

    def below(self, path: str, prefix: str) -> None:
        """Read a folder that is below the root under `prefix`, and all real ones in it, each unless it was read."""
        waiting = [(path, prefix)]
        found = self.found.setdefault(prefix.partition("/")[0], [])
        while waiting:
            path, prefix = waiting.pop()
            try:
                key = _key(path)
                if key in self.visited:
                    self._again.append(prefix.rstrip("/"))
                    continue
                self.visited.add(key)
                folders, links, pictures = self.read(path, prefix)
            except OSError as error:
                self._unlisted.append(f"{prefix.rstrip('/')} ({error.strerror})")
                continue
            found += pictures
            if pictures:
                self.pictures_in[prefix.rstrip("/")] = len(pictures)
            self.links += links
            waiting += [(f"{path}/{name}", f"{prefix}{name}/") for name in folders]

    def follow(self, root: str) -> None:
        """Read the folders that links lead to, the links inside them included."""
        self._root = root
        for inside in self.links:  # grows while it is read
            self.below(f"{root}/{inside}", f"{inside}/")

    def notes(self) -> tuple[str, ...]:
        """Return what was left out, and what is there twice."""
        notes = []
        if self._left_out or self._hidden:
            notes.append(self._left_out_note())
        if self._again:
            shown = _few(self._again)
            notes.append(f"{len(self._again)} links lead to folders that were read already; left out: {shown}.")
        if self._unlisted:
            notes.append(
                f"{len(self._unlisted)} folders could not be listed and were left out: {_few(self._unlisted)}."
            )
        return (*notes, *self._twice())

    def _left_out_note(self) -> str:
        kinds = [f"{count} {ending or 'without an ending'}" for ending, count in self._left_out.most_common()]
        kinds += [f"{self._hidden} hidden"] if self._hidden else []
        count = self._left_out.total() + self._hidden
        more = f" and {len(kinds) - 8} more kinds" if len(kinds) > 8 else ""
        ways = dict.fromkeys(filter(None, map(self._way_out, list(self._left_out)[:_LOOKED_INTO])))
        fix = f" ({'; '.join(ways)})" if ways else ""
        return f"{count} files were left out, as no pictures that can be read here: {', '.join(kinds[:8])}{more}{fix}."

    def _way_out(self, ending: str) -> str:
        known = way_out(ending)
        right = "" if known or not self._root else ending_by_content(f"{self._root}/{self._example[ending]}")
        return f"{self._example[ending]} is a picture: let it end in {right}" if right else known

    def _twice(self) -> tuple[str, ...]:
        """Say which pictures are links to others of the set, or to one file; only links cost a look."""
        pictures = {file for files in self.found.values() for file in files} if self._linked else set()
        first: dict[str, str] = {}
        same = []
        real_root = os.path.realpath(self._root) + "/"
        for inside, path in self._linked.items():
            if inside not in pictures:
                continue
            target = os.path.realpath(path)
            other = target.removeprefix(real_root) if target.startswith(real_root) else ""
            other = other if other in pictures else first.setdefault(target, inside)
            if other != inside:
                same.append(f"{inside} is {other}")
        if not same:
            return ()
        return (f"{len(same)} pictures are links to others of the set, and count twice: {_few(sorted(same))}.",)


def _ending(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
