"""`wds:val-{000..099}.tar`: WebDataset's tar shards, read in any order by an index of where each member lies."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from assay.core.errors import AssayError, BadInput, did_you_mean
from assay.data.cache import say
from assay.data.class_orders import Folders, Renumbering, numbered, renumberings
from assay.data.dataset import Source
from assay.data.known_labels import LABEL_KEYS
from assay.data.labelled_files import LabelledFiles
from assay.data.labels import Labelling, Vocabulary, label_folders
from assay.data.pictures import picture_endings
from assay.data.spec import take_apart
from assay.data.stores.objects import Entry, in_words
from assay.data.stores.pieces import FarFiles, Piece, in_threads
from assay.data.stores.place import Place, refuse_credentials
from assay.data.stores.shard_names import shards
from assay.data.stores.tar_index import Member, members_of
from assay.data.written_labels import READING, Written
from assay.models.classifier import Classifier

OPTIONS = READING | {"image", "label", "key", "order"}
KEYS = ("first-dot", "last-dot")
_TOLD_EVERY = 5.0
_SHOWN = 3


@dataclasses.dataclass
class _Key:
    """The members of one sample: by what stands behind the dot of their names."""

    id: str
    shard: int
    parts: dict[str, Member]
    twice: str = ""


def tar_shards(name: str, model: Classifier | None, *, labelled: bool = True) -> Source:
    """Return the pictures in tar shards, under the ids `shard/key`.

    `name` is a path or URL with ranges or `*`. Options: `image` (the part of a key that is the picture, such as
    left.jpg), `label` (cls, txt, folder, json, or json.FIELD), `key` (first-dot, WebDataset's own rule, or last-dot),
    and `order`, `white` and `orientation` as for folders. Raises `BadInput` naming the shard that cannot be used, and
    where several pictures or no labels belong to a key.
    """
    refuse_credentials(name)
    plain, options = take_apart(name, OPTIONS)
    written = Written(f"wds:{plain}", options)
    place, entries, names = shards(plain, "wds:")
    keys, notes = _keys(place, entries, names, _key_rule(options))
    image = _image_part(keys, options, written)
    pictured = [key for key in keys if image(key) is not None]
    notes += _left_out("keys without a picture", [key.id for key in keys if image(key) is None])
    if not pictured:
        raise BadInput(f"There are no pictures in {plain} ({len(entries)} shards, {len(keys)} keys).")
    vocabulary = Vocabulary(model.classes, model.synsets) if model and model.classes else None
    if labelled:
        words, notes_of_labels = _words(pictured, options, written)
        kept = [key for key, word in zip(pictured, words, strict=True) if word is not None]
        labelling, others = _labelled([word for word in words if word is not None], vocabulary, written)
        labels = tuple(labelling.label_of[word] for word in words if word is not None)
        notes += (*notes_of_labels, *labelling.notes)
    else:
        kept, labels, labelling, others = pictured, (0,) * len(pictured), Labelling({}, None), ()
    ids = tuple(key.id for key in kept)
    far = FarFiles(place, ids, [_piece(key, image(key) or "", entries[key.shard]) for key in kept])
    notes += _left_out(
        "keys stand twice in their shard (each is an error in the records)", [k.id for k in kept if k.twice]
    )
    notes += far.named_by()
    return LabelledFiles(place.url, ids, labels, labelling.classes, notes, written, others, far).source(model)


def _piece(key: _Key, part: str, shard: Entry) -> Piece:
    member = key.parts[part]
    return Piece(shard.path, member.size, shard.tag, member.start, False, key.twice or member.problem)


def _key_rule(options: Mapping[str, str]) -> str:
    rule = options.get("key", KEYS[0])
    if rule not in KEYS:
        raise BadInput(f"key is {rule!r}; expected first-dot or last-dot.{did_you_mean(rule, KEYS)}")
    return rule


def _keys(
    place: Place, entries: Sequence[Entry], names: Sequence[str], rule: str
) -> tuple[list[_Key], tuple[str, ...]]:
    """Return the samples of all shards, in their order, and notes on shards."""
    answers = in_threads([_Indexing(place, entry) for entry in entries])
    keys: list[_Key] = []
    empty, odd = [], []
    told = time.monotonic()
    for shard, (answer, name) in enumerate(zip(answers, names, strict=True)):
        members, note = answer.result()
        if time.monotonic() > told + _TOLD_EVERY:
            told = time.monotonic()
            say(f"{shard + 1} of {len(entries)} shards are indexed (their headers alone are read, and that once).")
        if not members:
            empty.append(name)
        elif note:
            odd.append(f"{name} {note}")
        keys += _grouped(members, name, shard, rule)
    notes = [f"{len(empty)} shards are empty: {_few(empty)}."] if empty else []
    return keys, (*notes, *(f"The shard {one}." for one in odd[:_SHOWN]))


@dataclasses.dataclass(frozen=True)
class _Indexing:
    place: Place
    entry: Entry

    def __call__(self) -> tuple[list[Member], str]:
        try:
            return members_of(self.place, self.entry)
        except AssayError:
            raise
        except Exception as error:
            raise in_words(dataclasses.replace(self.place, url=self.entry.path), "wds:", error) from error


def _grouped(members: Sequence[Member], name: str, shard: int, rule: str) -> list[_Key]:
    """Gather the members of each key of a shard, wherever in it they stand."""
    keys: dict[str, _Key] = {}
    for member in members:
        folder, slash, file = member.name.rpartition("/")
        if not file or file.startswith("."):
            continue
        at = file.find(".") if rule == KEYS[0] else file.rfind(".")
        if at < 0:
            continue
        key, part = f"{folder}{slash}{file[:at]}", file[at + 1 :].lower()
        one = keys.setdefault(key, _Key(f"{name}/{key}", shard, {}))
        if part in one.parts and one.parts[part] != member:
            one.twice = f"{member.name} stands twice in the shard, and which one is meant cannot be told"
        else:
            one.parts[part] = member
    return list(keys.values())


class _ImagePart:
    """Which part of a key is its picture: one that the user names, or the only one."""

    def __init__(self, named: str | None) -> None:
        self.named = named
        self._endings = picture_endings()

    def pictures(self, key: _Key) -> list[str]:
        """Return the parts that end like pictures."""
        return [part for part in key.parts if f".{part.rpartition('.')[2]}" in self._endings]

    def __call__(self, key: _Key) -> str | None:
        """Return the part that is the picture, None where there is none."""
        if self.named is not None:
            return self.named if self.named in key.parts else None
        return next(iter(self.pictures(key)), None)


def _image_part(keys: Sequence[_Key], options: Mapping[str, str], written: Written) -> _ImagePart:
    named = options.get("image")
    image = _ImagePart(named.lower().lstrip(".") if named else None)
    if named:
        if not any(image(key) for key in keys):
            counts = Counter(part for key in keys for part in key.parts)
            near = did_you_mean(named, counts)
            raise BadInput(
                f"No key has a part {named!r}.{near} Parts are {_few([one for one, _ in counts.most_common()])}."
            )
        return image
    found = [(key, image.pictures(key)) for key in keys]
    several = next(((key, parts) for key, parts in found if len(parts) > 1), None)
    if several is not None:
        key, parts = several
        raise BadInput(
            f"The key {key.id} has {len(parts)} pictures: {_few(parts)}. Say which one is meant: "
            f"{written.advise('image', parts[0])}, or, if keys hold dots themselves, "
            f"{written.advise('key', 'last-dot')}."
        )
    dotted = {parts[0] for _, parts in found if parts and "." in parts[0]}
    if len(dotted) > 1 or (dotted and any(parts and "." not in parts[0] for _, parts in found)):
        key = next(key for key, parts in found if parts and parts[0] in dotted)
        raise BadInput(
            f"The key {key.id} has the picture {image(key)}, others have others ({_few(sorted(dotted))}): keys seem "
            f"to hold dots, where WebDataset ends them at the first. Say {written.advise('key', 'last-dot')}, or which "
            f"pictures are meant: {written.advise('image', sorted(dotted)[0])}."
        )
    return image


def _words(
    keys: Sequence[_Key], options: Mapping[str, str], written: Written
) -> tuple[list[str | None], tuple[str, ...]]:
    """Return what each key says its class is, None where it says nothing, and notes."""
    asked = options.get("label")
    for kind in (asked,) if asked else ("cls", "json", "folder", "txt"):
        words = _by_folder(keys) if kind == "folder" else [_word(key, kind) for key in keys]
        if any(word is not None for word in words):
            break
    else:
        said = (
            f"by {asked!r}" if asked else "in .cls, .json (a field label, class, …), the folder of their names or .txt"
        )
        raise BadInput(
            f"No key of {written.name} says its class {said}; the first is {keys[0].id} with the parts "
            f"{_few(sorted(keys[0].parts))}. Say where it stands: {written.advise('label', 'json.FIELD')} (or cls, "
            "txt, folder), or measure without labels (labels: predicted)."
        )
    lost = [key.id for key, word in zip(keys, words, strict=True) if word is None]
    told = () if asked or kind == "cls" else (f"No key has a .cls: labels are read from {_WHERE[kind]}.",)
    return words, (*told, *_left_out(f"keys without a label ({kind})", lost))


_WHERE = {"cls": ".cls", "json": ".json", "folder": "the folder in each key", "txt": ".txt"}


def _word(key: _Key, kind: str) -> str | None:
    part, _, field = kind.partition(".")
    if part not in ("cls", "json", "txt"):
        raise BadInput(f"label is {kind!r}; expected cls, txt, folder, json or json.FIELD.{did_you_mean(kind, _WHERE)}")
    member = key.parts.get(part)
    if member is None or member.text is None or not member.text.strip():
        return None
    word = _from_json(member.text, field, key.id) if part == "json" else member.text.strip()
    return str(int(word)) if word is not None and word.isdecimal() else word


def _by_folder(keys: Sequence[_Key]) -> list[str | None]:
    """Return the first folder of each key below the folders that all of them share; their own where they share all."""
    folders = [next(iter(key.parts.values())).name.split("/")[:-1] for key in keys]
    common = 0
    while all(len(one) > common and one[common] == folders[0][common] for one in folders):
        common += 1
    return [one[common] if len(one) > common else (one[-1] if one else None) for one in folders]


def _from_json(text: str, field: str, key: str) -> str | None:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"The .json of {key} is no JSON: {error}.") from error
    names = [field] if field else [one for one in LABEL_KEYS if isinstance(value, dict) and one in value]
    if len(names) > 1 and names[0] != "label":
        raise BadInput(
            f"The .json of {key} has several fields that may be the label: {', '.join(names)}. Say label=json.FIELD."
        )
    found = value.get(names[0]) if isinstance(value, dict) and names else None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return str(found).strip() or None


def _labelled(
    words: Sequence[str], vocabulary: Vocabulary | None, written: Written
) -> tuple[Labelling, tuple[Renumbering, ...]]:
    names = tuple(sorted(set(words)))
    where = f"The labels of {written.name}, which are read as the names of class folders are"
    bad = next((one for one in names if re.fullmatch(r"-\d+|\d+[.]\d+", one)), None)
    if bad is not None:
        raise BadInput(f"A label of {written.name} is {bad}; expected class numbers from 0 on, or class names.")
    folders = Folders(names, names)
    order = written.options.get("order")
    try:
        if order is None:
            labelling = label_folders(names, vocabulary)
        else:
            labels, classes = numbered(folders, order)
            labelling = Labelling(labels, vocabulary.classes if vocabulary else classes)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    labelling = dataclasses.replace(labelling, notes=tuple(f"{where}: {note}" for note in labelling.notes))
    return labelling, renumberings(folders, labelling.label_of, lambda one: written.advise("order", one))


def _left_out(what: str, ids: Sequence[str]) -> tuple[str, ...]:
    if not ids:
        return ()
    verb = "" if "stand" in what else " were left out"
    return (f"{len(ids)} {what}{verb}: {_few(ids)}.",)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
