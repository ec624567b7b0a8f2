"""Which pictures the tables are of: the user's ImageNet, checked, and the single images of Tables II and III."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput, did_you_mean
from assay.paper.choices import Choices

if TYPE_CHECKING:
    from assay.data.dataset import Source

PER_CLASS = 5
"""The pictures of a class in the paper's data: image i is image i mod 5 of class i div 5."""

MOST_IMAGES = 16
"""A run keeps the pictures of so many images, and no more."""

IMAGES = "images"


@functools.lru_cache(maxsize=1)
def checked_imagenet(folder: Path) -> Source:
    """Return the pictures of the user's ImageNet.

    Raises `BadInput` where there is none, and where a class has no picture, naming its synset.
    """
    from assay.data.imagenet import imagenet
    from assay.models.imagenet import imagenet_classes, imagenet_synsets

    try:
        source = imagenet(str(folder), None)
    except BadInput as error:
        raise BadInput(str(error).replace("imagenet:", "--imagenet ")) from None
    synsets, classes = imagenet_synsets(), imagenet_classes()
    missing = sorted(set(range(len(classes))) - set(source.all_labels))
    if missing:
        named = ", ".join(f"{synsets[label]} ({classes[label]})" for label in missing[:3])
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise BadInput(
            f"{folder} has pictures of {len(classes) - len(missing):,} of ImageNet's {len(classes):,} classes; the "
            f"paper's tables need all. Missing: {named}{more}. Unpack the validation set anew, or add them."
        )
    return source


def of_the_paper(source: Source, number: int) -> str:
    """Return the id of the paper's image `number`: image i mod 5 of class i div 5, a class sorted by name.

    Raises `BadInput` where the class has too few pictures.
    """
    of_class: dict[int, list[str]] = defaultdict(list)
    for name, label in zip(source.ids, source.all_labels, strict=True):
        of_class[label].append(name)
    label, place = divmod(number, PER_CLASS)
    members = sorted(of_class[label])
    if place >= len(members):
        raise BadInput(
            f"The paper's image {number} is picture {place + 1} of class {label}, and {len(members)} of that class "
            "are there. Name images yourself: --image, once for each."
        )
    return members[place]


@dataclasses.dataclass(frozen=True)
class SingleImages:
    """The images of Tables II and III: the paper's by their `numbers`, or those that the user names.

    `spec` is the network that names a picture's class where nobody does.
    """

    choices: Choices
    numbers: Sequence[int]
    spec: str

    def data(self) -> list[dict[str, Any]]:
        """Return the images as the data of a study. Raises `BadInput` for what is no image, and for too many."""
        source = self._source()
        name = "samples" if self.choices.stand_in else f"imagenet:{self.choices.imagenet}"
        if not self.choices.images:
            return [{"source": name, "ids": self._usual(source)}]
        if len(self.choices.images) > MOST_IMAGES:
            raise BadInput(f"{len(self.choices.images)} images; expected at most {MOST_IMAGES}. Leave some out.")
        known, others = [], []
        for image in self.choices.images:
            inside = self._inside(source, image)
            known += [inside] if inside else []
            others += [] if inside else [self._placed(source, image)]
        folder = (self.choices.out / IMAGES).absolute()
        both = (name, known), (f"folder:{folder}", others)
        return [{"source": one, "ids": list(dict.fromkeys(ids))} for one, ids in both if ids]

    def _source(self) -> Source:
        from assay.data.imagenet_samples import samples

        if self.choices.stand_in:
            return samples("", None)
        assert self.choices.imagenet is not None, "asked for before"
        return checked_imagenet(self.choices.imagenet)

    def _usual(self, source: Source) -> list[str]:
        if self.choices.stand_in:
            return list(source.ids[: len(self.numbers)])
        return [of_the_paper(source, number) for number in self.numbers]

    def _inside(self, source: Source, image: str) -> str:
        """Return the id of an image that belongs to the data, named by its id or its path; "" for any other."""
        if image in source.ids:
            return image
        path = Path(image).expanduser()
        if self.choices.imagenet is not None and path.is_file():
            root = self.choices.imagenet.resolve()
            inside = path.resolve()
            name = inside.relative_to(root).as_posix() if inside.is_relative_to(root) else ""
            return name if name in source.ids else ""
        return ""

    def _placed(self, source: Source, image: str) -> str:
        """Copy a picture from elsewhere beside the runs, into a folder of its class, and return its id there."""
        path, name = _taken_apart(image)
        if not path.is_file():
            near = did_you_mean(image, source.ids)
            raise BadInput(f"--image {image} is neither a picture nor a sample.{near} Ids look like {source.ids[0]!r}.")
        content = path.read_bytes()
        label = self._label(path, name)
        known = f"{label}/{hashlib.sha256(content).hexdigest()[:8]}-{path.name}"
        place = self.choices.out / IMAGES / known
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return known

    def _label(self, path: Path, name: str) -> int:
        from assay.models.imagenet import imagenet_classes, imagenet_synsets

        classes = imagenet_classes()
        if name.isdecimal() and int(name) < len(classes):
            return int(name)
        for known in (imagenet_synsets(), classes):
            if name in known:
                return known.index(name)
        if name:
            near = did_you_mean(name, classes)
            raise BadInput(
                f"--image {path}={name}: ImageNet has no class {name!r}.{near} Give its number, 0 to "
                f"{len(classes) - 1}, its synset or its name."
            )
        return self._predicted(path)

    def _predicted(self, path: Path) -> int:
        """Return the class that the network sees in a picture: the one to move away from where nobody names any."""

        from assay.data.pictures import decode, picture_tensor
        from assay.models import load_model

        model = load_model(self.spec)
        x = picture_tensor(decode(path, 3), model.preprocess)[None]
        with model.held():
            return int(model.oracle().answers(x).argmax(1))


def _taken_apart(image: str) -> tuple[Path, str]:
    """Return the path and the class of `PATH=CLASS`, or the path and ""."""
    whole = Path(image).expanduser()
    path, equals, name = image.rpartition("=")
    return (whole, "") if whole.is_file() or not equals else (Path(path).expanduser(), name.strip())
