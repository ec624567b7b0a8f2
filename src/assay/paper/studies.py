"""The studies of the paper's tables: YAML files, with the user's folders, networks and images put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError
from assay.paper.choices import Choices, network_spec

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MEAN_STD = 0.226
"""The mean of the standard deviations 0.229, 0.224 and 0.225 that torchvision's weights divide by."""

STAND_IN_STD = 128 / 255
"""That of the EfficientNet-Lites, the same for every channel."""

# what the stand-in holds out for patches of its 20 pictures, where the paper's protocol holds out 500 of 5,000
_HELD_OUT, _HELD_OUT_STAND_IN = "500", "5"

_IMAGENET, _OUT, _IMAGE = "imagenet:DIR", "OUT/", "IMAGE "
_NETWORK = re.compile(r"torchvision:(\w+)@")


def studies_folder() -> Traversable:
    """Return the folder of the studies: in the package where it is installed, in the repository where it is not."""
    inside = files("assay.paper") / "sen2023"
    beside = Path(__file__).parents[3] / "studies" / "sen2023"
    for folder in (inside, beside):
        if (folder / "table-i.yaml").is_file():
            return folder
    raise AssayError(f"The studies of the paper are in neither {inside} nor {beside}. Install Assay again.")


def raw_study(name: str) -> dict[str, Any]:
    """Return a study as its file has it, as plain values."""
    from assay.evaluation.study.yaml_source import read_yaml

    file = f"{name}.yaml"
    return dict(read_yaml((studies_folder() / file).read_text("utf-8"), file)[0])


def written_budget(eps: float, std: float) -> str:
    """Return the pixel budget of `eps` units of a normalisation by `std`, in grey levels: `1.1526/255`."""
    return f"{round(eps * std * 255, 6):g}/255"


def filled_in(raw: Mapping[str, Any], choices: Choices, pictures: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a study's plain values with the user's choices in the place of DIR, OUT, IMAGE and the networks."""
    whole = dict(raw)
    if isinstance(whole.get("grids"), list):
        whole["grids"] = [filled_in(grid, choices, pictures) for grid in whole["grids"]]
    if "study" in whole:
        whole["study"] += choices.suffix
    if "models" in whole:
        whole["models"] = [_model(spec, choices) for spec in whole["models"]]
    if "data" in whole:
        whole["data"] = pictures() if of_single_images(whole) else [_data(whole["data"], choices)]
    if "threats" in whole and choices.stand_in:
        whole["threats"] = [_rescaled(threat) for threat in whole["threats"]]
    if "goal" in whole and choices.files:
        whole["goal"] = f"targeted {imagenet_number(whole['goal'].removeprefix('targeted '))}"
    if "attacks" in whole:
        whole["attacks"] = [_attack(one, choices) for one in whole["attacks"]]
    return whole


def imagenet_number(name: str) -> int:
    """Return the label of a class of ImageNet by its name."""
    from assay.models.imagenet import imagenet_classes

    return imagenet_classes().index(name)


def of_single_images(raw: Mapping[str, Any]) -> bool:
    """Whether a study is of images that are chosen one by one."""
    data = raw.get("data")
    return isinstance(data, Mapping) and any(one.startswith(_IMAGE) for one in data.get("ids", ()))


def image_numbers(raw: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the images that a study of single images is of."""
    return [int(one.removeprefix(_IMAGE)) for one in raw["data"]["ids"]]


def patch_files(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files of the patches that a study needs, each once."""
    attacks = [one for grid in raw.get("grids", ()) for one in grid["attacks"]]
    names = [one["file"] for one in attacks if isinstance(one, Mapping) and "file" in one]
    yield from dict.fromkeys(names)


def _model(spec: str, choices: Choices) -> str:
    named = _NETWORK.match(spec)
    return network_spec(named[1], choices) if named else spec


def _data(data: Any, choices: Choices) -> dict[str, Any]:
    chosen = {"source": data} if isinstance(data, str) else dict(data)
    if chosen["source"] == _IMAGENET:
        if choices.stand_in:
            part = {"part": chosen["part"].replace(_HELD_OUT, _HELD_OUT_STAND_IN)} if "part" in chosen else {}
            chosen = {"source": "samples", **part}
        else:
            assert choices.imagenet is not None, "asked for before"
            chosen["source"] = f"imagenet:{choices.imagenet}"
    if choices.limit is None:
        return chosen
    # rows of costly attacks are of fewer images already
    return {**chosen, "limit": min(choices.limit, chosen.get("limit", choices.limit))}


def _rescaled(threat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a threat whose pixel budgets are the same share of the stand-in's standard deviation."""
    if threat["norm"] != "linf":
        return dict(threat)
    return {**threat, "eps": [_rescaled_budget(one) for one in threat["eps"]]}


def _rescaled_budget(written: Any) -> Any:
    text = str(written)
    if not text.endswith("/255"):
        return written
    return written_budget(float(text.removesuffix("/255")) / 255 / MEAN_STD, STAND_IN_STD)


def _attack(attack: Any, choices: Choices) -> Any:
    if not isinstance(attack, Mapping) or not str(attack.get("file", "")).startswith(_OUT):
        return attack
    name = str(attack["file"]).removeprefix(_OUT)
    if choices.stand_in:
        name = name.replace("patches/", "patches-stand-in/", 1)
    return {**attack, "file": str(choices.out / name)}
