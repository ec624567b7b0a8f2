"""Names of many files in one: `{000..099}`, `{a,b}` and `*`, as shells write them, here and in stores."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

from assay.core.errors import BadInput
from assay.data.stores.objects import Entry, asked, entry, in_words, patiently
from assay.data.stores.pieces import in_threads
from assay.data.stores.place import Place, place_of
from assay.files import is_far

_MOST = 1_000_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def expanded(name: str) -> list[str]:
    """Return the names that braces stand for, in their order. Raises `BadInput` for braces that say nothing."""
    start = name.find("{")
    if start < 0:
        return [name]
    depth = 0
    for at in range(start, len(name)):
        depth += {"{": 1, "}": -1}.get(name[at], 0)
        if not depth:
            break
    else:
        raise BadInput(f"A brace is not closed in {name!r}. Write ranges as {{000..099}}, choices as {{a,b}}.")
    inside = [one for part in _parts(name[start + 1 : at]) for one in _choices(part, name)]
    rest = expanded(name[at + 1 :])
    if len(inside) * len(rest) > _MOST:
        raise BadInput(f"{name!r} stands for more than {_MOST:,} files. Write a smaller range.")
    return [f"{name[:start]}{one}{after}" for one in inside for after in rest]


def _parts(text: str) -> list[str]:
    """Split at the commas outside of inner braces."""
    depth, parts = 0, [""]
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _choices(part: str, name: str) -> list[str]:
    matched = _RANGE.fullmatch(part)
    if matched is None:
        if (".." in part and "{" not in part) or not part:
            raise BadInput(f"{{{part}}} in {name!r} is no range; write {{000..099}}, or {{a,b}} for choices.")
        return expanded(part)
    first, last, step = matched.groups()
    if int(last) < int(first) or (step and not int(step)):
        raise BadInput(f"{{{part}}} in {name!r} counts to nothing; write the smaller number first: {{000..099}}.")
    if int(last) - int(first) > _MOST:
        raise BadInput(f"{name!r} stands for more than {_MOST:,} files. Write a smaller range.")
    width = len(first) if first[0] == "0" or len(first) == len(last) else 0
    return [str(one).zfill(width) for one in range(int(first), int(last) + 1, int(step or 1))]


def shards(name: str, scheme: str) -> tuple[Place, list[Entry], list[str]]:
    """Return the store, the files that a name stands for, and what to call each.

    Raises `BadInput` where some of them are not there, naming those that are, and where two are the same.
    """
    names = expanded(name)
    if not names[0]:
        raise BadInput(f"{scheme!r} names no file; write {scheme}shards/val-{{000..099}}.tar.")
    places = [place_of(names[0], scheme)]
    places += [places[0].at(_path(places[0], one)) for one in names[1:]]
    found: list[Entry] = []
    if any(letter in name for letter in "*["):
        for place in places:
            listing = asked(place, scheme, functools.partial(place.fs.glob, place.path, detail=True))
            found += [entry(path, about) for path, about in sorted(listing.items()) if about.get("type") != "directory"]
        if not found:
            raise BadInput(f"No file fits {name} (from '{scheme}{name}').")
    else:
        found = _all(places, name, scheme)
    if len({one.path for one in found}) < len(found):
        raise BadInput(f"{name!r} names a file twice.")
    return places[0], found, _short([one.path for one in found])


def _path(place: Place, name: str) -> str:
    return str(place.fs._strip_protocol(name)) if is_far(name) else place_of(name, "").path


def _all(places: list[Place], name: str, scheme: str) -> list[Entry]:
    answers = [one.exception() or one.result() for one in in_threads([_info(place) for place in places])]
    found = [one for one in answers if isinstance(one, Entry)]
    errors = [(place, one) for place, one in zip(places, answers, strict=True) if isinstance(one, BaseException)]
    lost = [place for place, one in errors if isinstance(one, FileNotFoundError)]
    for place, error in errors:
        if len(places) == 1 or place not in lost:
            raise in_words(dataclasses.replace(place, url=place.path), scheme, error) from error
    if lost:
        shown = ", ".join(one.path.rpartition("/")[2] for one in lost[:5])
        raise BadInput(
            f"{len(lost)} of the {len(places)} files of {name} are not there: {shown}{', …' if len(lost) > 5 else ''}. "
            "Fetch them, or name the ranges that are there, such as shard-{{000..036},{038..099}}.tar."
        )
    return found


def _info(place: Place) -> Callable[[], Entry]:
    def ask() -> Entry:
        about = patiently(lambda: place.fs.info(place.path))
        if about.get("type") == "directory":
            raise IsADirectoryError(place.path)
        return entry(place.path, about)

    return ask


def _short(paths: list[str]) -> list[str]:
    """Return paths from where they differ in folders, without their ending."""
    folders = [path.split("/")[:-1] for path in paths]
    common = 0
    while all(len(one) > common and one[common] == folders[0][common] for one in folders):
        common += 1
    return ["/".join(path.split("/")[common:]).removesuffix(".tar") for path in paths]
