"""Image classifiers of Hugging Face's transformers (extra `hf`): config, weights and processor of a folder or an id."""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models.classifier import Classifier
from assay.models.failures import in_short
from assay.models.imagenet import imagenet_classes, imagenet_synsets
from assay.models.loaders.hf_folder import CONFIG, PROCESSORS, config_in, missing_extra, place_of, weights_in
from assay.models.loaders.hf_pictures import Pictures, pictures_of
from assay.models.normalized import Normalized
from assay.models.spec import Options, Request

_SYNSET = re.compile(r"n\d{8}")
_UNNAMED = re.compile(r"LABEL_\d+")


class Scores(nn.Module):
    """A model of transformers as one from images to logits: `order` says which channel of the images comes first."""

    def __init__(self, model: nn.Module, order: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, K]` of normalised images `[N, C, H, W]`."""
        given = x if self.order == tuple(sorted(self.order)) else x[:, list(self.order)]
        logits: Tensor = self.model(pixel_values=given, return_dict=True).logits
        return logits

    def extra_repr(self) -> str:
        """Say the order of the channels."""
        return f"order={self.order}"


def load(request: Request) -> Classifier:
    """Load `FOLDER` or `OWNER/NAME@REVISION` in float32, with its processor's resize, crop and normalisation.

    Options for pictures (`mean`, `std`, `size` and so on) stand in for the processor where they are given. Raises
    `BadInput` for what is no image classifier, lacks a part, or needs code of its own; see `place_of` for the rest.
    """
    place = place_of(request)
    folder, spec = place.folder, request.spec
    written = config_in(folder, spec)
    safe, files = weights_in(folder, spec, request.allow_pickle)
    _refuse_kinds(written, spec)
    with _quietly():
        config = _config(folder, written, spec)
        pictures = _pictures(request, folder, config)
        model, notes = _model(folder, config, safe, spec)
    notes = [*place.notes, *_code_notes(written), *_precision_notes(files, written, safe), *notes]
    module = Normalized(Scores(model, pictures.order), pictures.mean, pictures.std)
    size = pictures.size or _stated_size(config)
    channels = len(pictures.order)
    classes, synsets, about = _names(config, spec)
    _check_answer(module, (channels, *(size or (224, 224))), config, spec, stated=size is not None)
    if pictures.differs:
        notes.append(
            f"The model's own processor resizes by torchvision, Assay by Pillow: {pictures.differs:.1f} grey levels "
            "apart at most, on pictures that were tried."
        )
    return Classifier(
        module=module,
        spec=spec,
        input_shape=None if size is None else (channels, *size),
        mean=pictures.mean,
        std=pictures.std,
        preprocess=pictures.preprocess,
        classes=classes,
        synsets=synsets,
        channels=channels,
        notes=(*notes, *about),
        identity=_identity(folder),
    )


# ---- the libraries


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing_extra() from error
    return transformers


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the library's tables and bars meanwhile: what they tell is read from what it returns."""
    log = _transformers().utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


# ---- the network


def _refuse_kinds(written: dict[str, Any], spec: str) -> None:
    """Raise `BadInput` for models that are no classifiers of one label among several, by what their config says."""
    kind = written.get("problem_type")
    if kind == "multi_label_classification":
        raise BadInput(
            f"{spec!r} decides about several labels per image (problem_type {kind}), and studies take one label per "
            "image. In Python, attack it with the goal assay.MultiLabel, around a function from images to its logits: "
            "docs/several-labels.md."
        )
    if kind not in (None, "single_label_classification"):
        raise BadInput(f"{spec!r} is a model for {kind}, expected a classifier (single_label_classification).")
    if _label_count(written) == 1:
        raise BadInput(
            f"{spec!r} has one output (num_labels 1), which transformers takes for a regression; expected two classes "
            "or more. If it is a score of class 1, load it in a file of your own, my.py:factory?threshold=…"
        )
    if written.get("quantization_config"):
        method = written["quantization_config"].get("quant_method", "unknown")
        raise BadInput(
            f"{spec!r} is quantised ({method}), and loading it in float32 would make another model of it. Name the "
            "model before its quantisation, or load it in a file of your own, my.py:factory."
        )


def _label_count(written: dict[str, Any]) -> int | None:
    if isinstance(written.get("id2label"), dict):
        return len(written["id2label"])
    count = written.get("num_labels", written.get("num_classes"))
    return count if isinstance(count, int) else None


def _config(folder: Path, written: dict[str, Any], spec: str) -> Any:
    transformers = _transformers()
    kind = written.get("model_type", "")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # ValueError for an unknown type, and whatever odd values lead to
        if written.get("auto_map") or kind not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
            own = (
                "comes with code of its own (auto_map), which is never run" if written.get("auto_map") else "is unknown"
            )
            raise BadInput(
                f"{spec!r} has model_type {kind!r}, which {own} to transformers {transformers.__version__}. Load it in "
                "a file of your own, my.py:factory, or install a transformers that has it."
            ) from error
        raise BadInput(f"{spec!r} has a {CONFIG} that could not be used: {in_short(error)}.") from error
    mapping = transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if type(config) not in mapping:
        named = ", ".join(written.get("architectures") or ()) or kind
        raise BadInput(
            f"{spec!r} holds {named}, which has no image classifier in transformers {transformers.__version__}."
        )
    return config


def _model(folder: Path, config: Any, safe: bool, spec: str) -> tuple[nn.Module, list[str]]:
    transformers = _transformers()
    try:
        model, info = transformers.AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=safe,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            # so that they are named, and refused here
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # RuntimeError, OSError, ImportError (a backbone of timm), ValueError
        raise BadInput(f"{spec!r} could not be loaded by transformers: {in_short(error)}.") from error
    _refuse_missing(info, config, spec)
    if model.main_input_name != "pixel_values":
        raise BadInput(
            f"{spec!r} takes {model.main_input_name}, expected pixel_values: images. Load it in a file of your own, "
            "my.py:factory."
        )
    left = sorted(info["unexpected_keys"])
    notes = (
        [f"{len(left)} tensors of the file are no part of the network and were left out: {_some(left)}."]
        if left
        else []
    )
    model.eval()
    return model, notes


def _refuse_missing(info: dict[str, Any], config: Any, spec: str) -> None:
    missing = sorted(info["missing_keys"])
    other = sorted(
        f"{one[0]} {list(one[1])} in the file, {list(one[2])} by {CONFIG}" for one in info["mismatched_keys"]
    )
    if not (missing or other or info.get("error_msgs")):
        return
    parts = [f"lacks {_some(missing)}"] if missing else []
    parts += [f"holds other sizes: {_some(other)}"] if other else []
    parts += [str(one).partition("\n")[0] for one in info.get("error_msgs") or ()]
    named = ", ".join(config.architectures or ()) or config.model_type
    raise BadInput(
        f"{spec!r} ({named}) is no trained classifier as it is: the file of weights {'; '.join(parts)}. transformers "
        "would fill that with random numbers. Name the folder of the model that was trained for classification."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check_answer(module: nn.Module, shape: tuple[int, int, int], config: Any, spec: str, *, stated: bool) -> None:
    """Ask about one grey image. Raises `BadInput` unless there is a finite score for each of the config's labels."""
    try:
        with torch.no_grad():
            logits = module(torch.full((1, *shape), 0.5))
    except Exception as error:  # whatever a network raises for images that it does not take
        if not stated:
            return
        wants = f" Its {CONFIG} says image_size {config.image_size}." if getattr(config, "image_size", None) else ""
        raise BadInput(
            f"{spec!r} failed on an image of {shape[1]}x{shape[2]} with {shape[0]} channels, as its processor makes "
            f"them: {in_short(error)}.{wants} Put its processor right, or say size=…, mean=… and std=…"
        ) from error
    if logits.ndim != 2 or logits.shape[1] != config.num_labels:
        raise BadInput(
            f"{spec!r} answers {list(logits.shape)} for one image, and its {CONFIG} names {config.num_labels} labels; "
            "expected a score for each."
        )


# ---- pictures


def _pictures(request: Request, folder: Path, config: Any) -> Pictures:
    options = request.options
    channels = _channels(config)
    if options != Options():
        if options.mean is None or options.std is None:
            raise BadInput(
                f"{request.spec!r} says in part how pictures are prepared, and the model's processor is then left out; "
                "expected mean= and std= too."
            )
        if len(options.mean) not in (1, channels):
            raise BadInput(f"mean has {len(options.mean)} numbers, and {request.spec!r} takes {channels} channels.")
        mean, std = (one * channels if len(one) == 1 else one for one in (options.mean, options.std))
        return Pictures(options.preprocess, options.final_size, mean, std, tuple(range(channels)))
    if config.model_type != "timm_wrapper" and not any((folder / one).is_file() for one in PROCESSORS):
        raise BadInput(
            f"{folder} (from {request.spec!r}) has no {PROCESSORS[0]}, so nothing says how its pictures are prepared. "
            f"Copy it from the model that this one was made from, or say it: {request.spec}?mean=0.5,0.5,0.5"
            "&std=0.5,0.5,0.5&size=224."
        )
    return pictures_of(folder, channels, request.spec)


def _channels(config: Any) -> int:
    if config.model_type == "timm_wrapper":
        return int((getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3,))[0])
    return int(getattr(config, "num_channels", 3) or 3)


def _stated_size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


# ---- what is known of it


def _names(config: Any, spec: str) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, list[str]]:
    """Return class names, WordNet ids where the classes are ImageNet's, and notes."""
    names = config.id2label
    if sorted(names) != list(range(config.num_labels)):
        raise BadInput(
            f"{spec!r} names labels {_some(sorted(map(str, names)))}, expected one for each number from 0 to "
            f"{config.num_labels - 1}."
        )
    told = [str(names[number]) for number in range(config.num_labels)]
    if all(_UNNAMED.fullmatch(name) for name in told):
        note = (
            "The classes have no names but LABEL_0, LABEL_1 and so on: that a folder's classes are in the same order "
        )
        return None, None, [note + "is taken on trust. The doctor's accuracy shows where it is not so."]
    if all(_SYNSET.fullmatch(name) for name in told):
        same = tuple(told) == imagenet_synsets()
        return (imagenet_classes() if same else tuple(told)), tuple(told), []
    if len(told) == len(imagenet_classes()):
        pairs = zip(told, imagenet_classes(), strict=True)
        alike = sum(name.partition(",")[0].strip().lower() == known.lower() for name, known in pairs)
        if alike >= 0.8 * len(told):
            return imagenet_classes(), imagenet_synsets(), []
    return tuple(told), None, []


def _code_notes(written: dict[str, Any]) -> list[str]:
    if not written.get("auto_map"):
        return []
    return [
        f"The folder brings code of its own (auto_map); the class of transformers for {written['model_type']} was used."
    ]


def _precision_notes(files: list[Path], written: dict[str, Any], safe: bool) -> list[str]:
    found = _stored(files) if safe else {str(written.get("dtype", written.get("torch_dtype", "float32")))}
    coarse = sorted(one for one in found if one.lower() not in ("f32", "float32", "f64", "float64"))
    if not coarse:
        return []
    return [f"The weights are stored as {', '.join(coarse)} and were widened to float32: answers differ by rounding."]


def _stored(files: list[Path]) -> set[str]:
    from safetensors import safe_open

    found: set[str] = set()
    for one in files:
        with safe_open(one, "pt") as file:
            found |= {str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118  # no dictionary
    # counters are whole numbers
    return {kind for kind in found if kind.startswith(("F", "BF"))}


def _identity(folder: Path) -> str:
    """Return a digest of config and processor, whose settings neither the weights nor the names of layers hold."""
    content = hashlib.blake2b(digest_size=16)
    for name in (CONFIG, *PROCESSORS):
        path = folder / name
        if path.is_file():
            content.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"hf {content.hexdigest()}"
