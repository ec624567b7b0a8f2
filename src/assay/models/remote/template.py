"""Any other API: a request made from a template, and an answer read by paths."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.errors import BadInput, ModelError, did_you_mean
from assay.models.remote.answers import numbers, one_whole_number_each, parsed
from assay.models.remote.asking import Asking
from assay.models.remote.client import Reply, Rows
from assay.models.remote.paths import Part, parts_of, value_at
from assay.models.remote.pixels import Numbers, Picture, little
from assay.models.remote.transport import Transport, excerpt

ONE, MANY = "$image", "$images"


@dataclasses.dataclass(frozen=True)
class Answer:
    """Where an answer holds its scores and labels ("" for none), and whether it is the labels alone that count."""

    scores: str = ""
    labels: str = ""
    only_labels: bool = False


class Templated(Asking):
    """A client of an API that takes one JSON text, or the bytes of a picture alone, and answers JSON.

    `request` holds `$image` or `$images` where images go: as base64 of a `Picture`, or as nested lists of `Numbers`.
    `$image` alone, as a picture, is sent as it is. `names` are the classes, in their order; None for numbers.
    Raises `BadInput` for a template without an image, and for one that holds a secret.
    """

    def __init__(
        self,
        transport: Transport,
        request: Any,
        answer: Answer,
        *,
        image: Picture | Numbers,
        classes: int | None = None,
        names: Sequence[str] | None = None,
        params: Mapping[str, str] | None = None,
        version: str = "",
    ) -> None:
        request = _as_json(request)
        self.many = check_template(request, image)
        if not self.many:
            transport.limits = dataclasses.replace(transport.limits, batch=1)
        self._request = request
        self._raw = request == ONE and isinstance(image, Picture)
        self._image = image
        self._answer = answer
        self._paths: dict[str, tuple[Part, ...]] = {
            path: parts_of(path) for path in (answer.scores, answer.labels) if path
        }
        self._names = None if names is None else {name: at for at, name in enumerate(names)}
        self._params = dict(params or {})
        facts = {
            "protocol": "json", "url": transport.address.url, "image": repr(image), "request": request,
            "answer": dataclasses.asdict(answer), "classes": list(names) if names else classes,
        }  # fmt: skip
        facts |= {"params": self._params} if self._params else {}
        facts |= {"version": version} if version else {}
        super().__init__(transport, facts, len(names) if names else classes, answer.only_labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of how images get there."""
        if isinstance(self._image, Numbers):
            return (f"The endpoint {self.shown}: {self._image.loses}.",) if self._image.loses else ()
        how = "PNG" if self._image.quality is None else f"JPEG of quality {self._image.quality}"
        return (
            f"Images go to {self.shown} as {how}: values are rounded to 8 bits on the way"
            + ("" if self._image.quality is None else " and compressed")
            + ", and that is part of what is attacked. With grid=255 what is judged is what arrives.",
        )

    @property
    def levels(self) -> bool:
        """Whether images go as pictures, of grey levels."""
        return isinstance(self._image, Picture) or self._image.whole

    def content(self, row: Rows) -> bytes:
        """Return one row's levels, or the bytes of its numbers."""
        if isinstance(self._image, Picture):
            return self._image.levels(row).tobytes()
        return little(self._image.of(row[None]))

    def ask(self, rows: Rows) -> Reply:
        """Ask about rows `[N, C, H, W]`; N is 1 where the template holds one image."""
        content, kind = self._body(rows)
        answered = self.transport.send(
            "POST", self.transport.address, content, headers={"content-type": kind}, params=self._params
        )
        answer = parsed(answered.body, answered, self.shown)
        scores = self._class_of_each(answer, len(rows)) if self.labels else self._scores(answer, len(rows))
        return Reply(self.checked(scores, len(rows)), answered.retries, answered.doubtful)

    def _body(self, rows: Rows) -> tuple[bytes, str]:
        import orjson

        if isinstance(self._image, Picture):
            files = [self._image.of(row) for row in rows]
            if self._raw:
                return files[0], self._image.media
            images: Any = [base64.b64encode(one).decode("ascii") for one in files]
        else:
            images = self._image.in_json(rows)
        filled = _filled(self._request, images)
        return orjson.dumps(filled, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"

    def _at(self, answer: Any, path: str, n: int) -> list[Any]:
        """Return what stands at a path for each image."""
        found = value_at(answer, self._paths[path], self.shown, path)
        if not self.many:
            return [found]
        if not isinstance(found, list) or len(found) != n:
            told = len(found) if isinstance(found, list) else "no list of"
            raise ModelError(f"The endpoint {self.shown} answered {told} answers at {path} for {n} images.")
        return found

    def _scores(self, answer: Any, n: int) -> Rows:
        found = self._at(answer, self._answer.scores, n)
        if not self._answer.labels and all(isinstance(one, Mapping) for one in found):
            # a score under the name of each class
            if self.classes is None:
                raise ModelError(
                    f"The endpoint {self.shown} answered scores under the names {excerpt(', '.join(found[0]))}, and "
                    "nothing says in which order your labels count them. Name the classes: classes: labels.txt."
                )
            return np.stack([self._in_order(list(one.values()), list(one)) for one in found])
        if not self._answer.labels:
            one_whole_number_each(found, n, self.shown)
            # one image's scores may stand in a list of their own
            flat = [one[0] if _nested(one) and len(one) == 1 else one for one in found]
            return numbers(flat, self.shown)
        named = self._at(answer, self._answer.labels, n)
        return np.stack([self._in_order(scores, names) for scores, names in zip(found, named, strict=True)])

    def _in_order(self, scores: Any, labels: Any) -> Rows:
        """Return one image's scores in the order of the classes."""
        values, at = numbers(scores, self.shown), self._places(labels)
        if values.shape != (len(at),):
            raise ModelError(f"The endpoint {self.shown} answered {values.size} scores with {len(at)} labels.")
        missing = (self.classes or 0) - len(set(at))
        if missing or len(at) != len(set(at)):
            raise ModelError(
                f"The endpoint {self.shown} answered {len(set(at))} of {self.classes} classes: it leaves the lowest "
                "out. Ask it for all of them in the request, or take what it says as labels alone: answer: "
                "{outputs: labels}."
            )
        ordered = np.empty(len(at), np.float32)
        ordered[at] = values
        return ordered

    def _class_of_each(self, answer: Any, n: int) -> Rows:
        named = self._at(answer, self._answer.labels, n)
        scores = self._at(answer, self._answer.scores, n) if self._answer.scores else [None] * n
        return np.array([self._first(one, score) for one, score in zip(named, scores, strict=True)], np.float32)

    def _first(self, labels: Any, scores: Any) -> int:
        places = self._places(labels if isinstance(labels, list) else [labels])
        if not places:
            raise ModelError(f"The endpoint {self.shown} answered no label.")
        if scores is None:
            return places[0]
        values = numbers(scores if isinstance(scores, list) else [scores], self.shown)
        if values.shape != (len(places),):
            raise ModelError(f"The endpoint {self.shown} answered {values.size} scores with {len(places)} labels.")
        return places[int(values.argmax())]

    def _places(self, labels: Any) -> list[int]:
        if not isinstance(labels, list):
            raise ModelError(f"The endpoint {self.shown} answered {excerpt(str(labels))}, expected a list of labels.")
        return [self._place(label) for label in labels]

    def _place(self, label: Any) -> int:
        if self._names is not None:
            at = self._names.get(str(label))
            if at is None:
                near = did_you_mean(str(label), self._names)
                raise ModelError(
                    f"The endpoint {self.shown} answered the label {excerpt(str(label))!r}, which is none of its "
                    f"{len(self._names)} classes.{near}"
                )
            return at
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        whole = isinstance(label, int) and not isinstance(label, bool) and label >= 0
        if not (whole or (isinstance(label, str) and label.isdecimal())) or int(label) >= (self.classes or 0):
            raise ModelError(
                f"The endpoint {self.shown} answered the label {excerpt(str(label))!r}, expected a class number below "
                f"{self.classes}. Name the classes as it does, in their order: classes: labels.txt."
            )
        return int(label)


def check_template(request: Any, image: Picture | Numbers) -> bool:
    """Say whether a template takes several images. Raises `BadInput` where it takes none, both, or holds a secret."""
    texts = list(_texts(request))
    many = any(text == MANY for text in texts)
    one = any(ONE in text.replace(MANY, "") for text in texts)
    if any("${" in text for text in texts):
        raise BadInput(
            "request: holds ${…}, and what is sent there would stand in the digest and in errors. Give secrets as "
            "headers."
        )
    if any(MANY in text and text != MANY for text in texts):
        raise BadInput(f"request: {MANY} is a list of images, and has to stand alone in its place.")
    if many == one:
        what = f"both {ONE} and {MANY}" if many else f"neither {ONE} nor {MANY}"
        raise BadInput(f"request: holds {what}; expected one of them where images go, such as {{inputs: {ONE}}}.")
    if isinstance(image, Numbers) and any(ONE in text and text != ONE for text in texts if text != MANY):
        raise BadInput(f"request: {ONE} is a list of numbers (image: floats), and has to stand alone in its place.")
    return many


def _as_json(request: Any) -> Any:
    """Return a template with what JSON has: a file may hold dates, and keys that are numbers."""
    import orjson

    try:
        return orjson.loads(orjson.dumps(request, option=orjson.OPT_NON_STR_KEYS))
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BadInput(f"request: cannot be written as JSON: {error}.") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _filled(template: Any, images: Any) -> Any:
    if isinstance(template, Mapping):
        return {key: _filled(one, images) for key, one in template.items()}
    if isinstance(template, list):
        return [_filled(one, images) for one in template]
    if template == MANY:
        return images
    if template == ONE:
        return images[0]
    if isinstance(template, str) and ONE in template:
        return template.replace(ONE, images[0])
    return template


def _nested(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)
