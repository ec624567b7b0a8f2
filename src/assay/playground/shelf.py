"""The models, samples and patches of one worker: loaded once, kept warm."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from assay.attacks import build
from assay.core.errors import AssayError, BadInput
from assay.core.oracle import Access
from assay.core.threat import Linf
from assay.data import Sample, load_data
from assay.data.imagenet_samples import SHA256
from assay.data.mnist import MD5
from assay.files import cache_dir
from assay.models import Classifier, load_model
from assay.models.defended import defended
from assay.patches.patch import Patch
from assay.patches.pictures import picture_of, png_bytes
from assay.playground import menu, shown
from assay.playground.attacking import look
from assay.playground.budgets import budgets
from assay.playground.pool import refused_endpoint

Json = dict[str, Any]
_SAMPLES = 20
_THUMB = 112


@dataclasses.dataclass
class Shelf:
    """What a worker has at hand. `names` are the models' names as the command line gave them."""

    names: Sequence[str]
    allow_pickle: bool = False
    models: dict[str, Classifier] = dataclasses.field(default_factory=dict)

    def load(self, name: str) -> Json:
        """Load a model, warm it up, and return what the page needs to know of it; why not, where it cannot be."""
        try:
            model = load_model(name, allow_pickle=self.allow_pickle)
            if model.endpoints:
                raise BadInput(refused_endpoint(name))
            classes = _warmed(model)
        except AssayError as error:
            return {"name": name, "title": name, "ready": False, "failed": str(error)}
        except BaseException as error:  # a user's module may raise anything, SystemExit included
            if isinstance(error, KeyboardInterrupt):
                raise
            return {"name": name, "title": name, "ready": False, "failed": f"{type(error).__name__}: {error}"}
        self.models[name] = model
        kind = menu.kind_of(model, classes)
        return {
            "name": name, "title": name, "ready": True, "failed": None, "kind": kind,
            "shape": list(model.input_shape or (model.channels or 3, 0, 0)), "access": model.access.name.lower(),
            "classes": [shown.name_of(model, at) for at in range(classes)], "defended": bool(model.defenses),
            "budgets": budgets(kind),
        }  # fmt: skip

    def model(self, name: str, defence: str | None = None) -> Classifier:
        """Return a model, behind a defence where one is named. Raises `BadInput` for an unknown one."""
        if name not in self.models:
            raise BadInput(f"There is no model {name!r} here. There are: {', '.join(self.models) or 'none yet'}.")
        return self._behind(name, defence) if defence else self.models[name]

    @functools.lru_cache(maxsize=16)  # noqa: B019 - one shelf lives as long as its process
    def _behind(self, name: str, defence: str) -> Classifier:
        if defence not in {one["name"] for one in menu.defences()}:
            raise BadInput(f"There is no defence {defence!r} here. `assay defenses` lists those there are.")
        return defended(self.models[name], defence)

    __hash__ = object.__hash__


def _warmed(model: Classifier) -> int:
    """Return how many classes a model has; the first attack of a process pays for imports, and this is it."""
    shape = model.input_shape or (model.channels or 3, 64, 64)
    x = torch.full((1, *shape), 0.5)
    logits = look(model, x)
    if model.access is Access.GRADIENT:
        from assay.api.tensors import attack

        attack(build("pgd", steps=1), model, x, logits[:, : logits.shape[1] - model.rejects].argmax(1), Linf(0.01))
    return logits.shape[1] - int(model.rejects)


def samples(data: str | None, model: Classifier | None, kind: str) -> Iterator[Json]:
    """Yield pictures to begin with: of `data` where given, else what the cache holds for the kind of model.

    Each has its picture as PNG for the page, its own content where that is another one, and its label. Nothing is
    fetched.
    """
    source, title = (data, data) if data else _usual(kind)
    if source is None or model is None:
        return
    chosen: Json = {"limit": 400} if source == "mnist/test" and not data else {"limit": _SAMPLES}
    found = load_data(source, model=model, **chosen)
    seen: set[int] = set()
    for at in range(len(found)):
        # of our own digits one of each class
        if not data and kind == "digits" and found.labels[at] in seen:
            continue
        (one,) = found.load([at])
        if isinstance(one, Sample):
            seen.add(one.label)
            yield _sample(one, model, kind, str(title))


def _usual(kind: str) -> tuple[str | None, str]:
    if kind == "digits" and all((cache_dir() / "mnist" / name).is_file() for name in MD5 if name.startswith("t10k")):
        return "mnist/test", "MNIST"
    if kind == "picture" and all((cache_dir() / "samples" / f"{key}.jpg").is_file() for key in SHA256):
        return "samples", "ImageNet"
    return None, ""


def _sample(one: Sample, model: Classifier, kind: str, title: str) -> Json:
    whole = shown.png(one.image)
    thumb = whole if max(one.image.shape[1:]) <= _THUMB else _small(one.image)
    name = shown.name_of(model, one.label)
    told: Json = {
        "id": one.id, "title": f"{title}: {name}", "model_kind": kind, "png": shown.data_uri(thumb), "label": one.label,
    }  # fmt: skip
    return told if thumb is whole else {**told, "content": base64.b64encode(whole).decode()}


def _small(image: Tensor) -> bytes:
    with Image.open(io.BytesIO(shown.png(image))) as picture:
        picture.thumbnail((_THUMB, _THUMB))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
    return stream.getvalue()


def trained_patch(path: str) -> Json:
    """Return a patch file for the page. Raises `BadInput` for a file that holds none."""
    patch = Patch.load(path)
    return {"title": patch.name, "png": shown.data_uri(png_bytes(picture_of(patch)))}


def uploaded_patch(content: bytes) -> Json:
    """Return an uploaded picture as a patch, transparent where the picture is; at most 512 pixels a side.

    Raises `BadInput` with a sentence for what is no picture.
    """
    from assay.playground.intake import checked_picture

    picture = checked_picture(content)
    picture.thumbnail((512, 512))
    return {"title": f"uploaded {picture.width} × {picture.height}", "png": shown.data_uri(png_bytes(picture))}
