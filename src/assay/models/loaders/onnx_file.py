"""ONNX files (extra `onnx`): scores from onnxruntime, gradients from a conversion that agrees with the file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from assay.core.errors import AssayError, BadInput, ModelError
from assay.core.oracle import ONE_PASS, Access, LookPasses
from assay.models.classifier import Classifier
from assay.models.deployed import Deployed
from assay.models.normalized import Thresholded
from assay.models.onnx.conversion import Conversion, converted
from assay.models.onnx.graph import Head, chosen_output, head_of, refuse_sorted
from assay.models.onnx.intake import Taken, taken
from assay.models.onnx.parity import probes
from assay.models.onnx.reading import OnnxFile, needed, read
from assay.models.onnx.session import Session
from assay.models.onnx.settling import settled
from assay.models.spec import Options, Request

_BLACK_BOX = (
    "Attacks that need scores or labels alone fit (`assay attacks` lists them: square, hop-skip-jump). For gradients "
    "name the float network that it was made from, ?twin=onnx:float.onnx or ?twin=my.py:factory, or make images on "
    "another network and transfer them (assay transfer)."
)


def load(request: Request) -> Classifier:
    """Load `FILE`: asked through onnxruntime, with gradients where a converter makes the same network in torch.

    Raises `BadInput` for what is no ONNX classifier of one image, and for options that contradict the file.
    """
    spec, settings = request.spec, request.settings
    path = Path(request.name).expanduser()
    file = read(path, spec)
    needed("onnxruntime", spec)
    output = chosen_output(file, settings.get("output"), spec)
    refuse_sorted(file, output, spec)
    images = taken(file, request.options, settings, spec)
    # who wants the file's probabilities attacked gets them as they are
    head = Head(output, output.name) if request.outputs == "probabilities" else head_of(file, output)
    probe, session, told = _settled(file, head, images, spec)
    scores = session(probe.numpy()).shape[1]
    found = Conversion()
    if "twin" not in settings:
        found = converted(file, session, probe, settings.get("converter"), spec)
    notes = [*told, *_about_images(images), *_about_gradients(found, "twin" in settings)]
    module = Deployed(session, found.twin)
    threshold, about = _threshold(images.options, session.head)
    return Classifier(
        Thresholded(module, threshold) if threshold is not None else module,
        spec,
        input_shape=images.input_shape,
        mean=images.options.mean,
        std=images.options.std,
        preprocess=images.options.preprocess,
        classes=file.class_names(max(scores, 2)),
        channels=images.sides[0] or images.options.channels,
        notes=(*notes, *about),
        access=Access.SCORES if found.twin is None else Access.GRADIENT,
        identity=_identity(file, session),
        passes=ONE_PASS if found.twin is None else LookPasses(climbing=2),
        random=session.random,
    )


def _identity(file: OnnxFile, session: Session) -> str:
    """Return what the answers depend on: the bytes of all files, and which tensor of which input is asked for."""
    intake = session.intake
    return f"onnx {file.digest} {session.head.tensor} {intake.layout} {intake.shape} {intake.reverse}"


def _settled(file: OnnxFile, head: Head, images: Taken, spec: str) -> tuple[Tensor, Session, list[str]]:
    """Return probes of a size that the file takes, and the session that was found to be right on them."""
    first: AssayError | None = None
    shapes = [images.input_shape] if images.input_shape is not None else images.guesses()
    for shape in shapes:
        probe = probes(shape)
        if images.intake.whole_numbers:
            probe = (255 * probe).round() / 255
        try:
            session, told = settled(Session(file, head, images.intake, images.rows), probe.numpy())
        except ModelError as error:
            first = first or error
            continue
        return probe, session, told
    assert first is not None, "there is at least one shape"
    if images.input_shape is None:
        raise BadInput(
            f"{spec!r} takes images of any size, but none of {', '.join(f'{h}x{w}' for _, h, w in shapes)}: {first} "
            f"Say which: {spec}{'&' if '?' in spec else '?'}size=HEIGHTxWIDTH."
        ) from first
    raise BadInput(f"{spec!r} could not be asked about images {list(images.input_shape)}: {first}") from first


def _about_images(images: Taken) -> list[str]:
    told = []
    if images.intake.whole_numbers:
        told.append(
            "The file takes whole grey levels, 0 to 255: images between two of them are rounded before it sees them. "
            "With grid: 255 in the threat, attacks stay on them."
        )
    if images.intake.layout == "flat" and (images.sides[0] or 1) > 1:
        told.append("The file takes flat images: their values go in channel by channel.")
    return told


def _about_gradients(found: Conversion, stated: bool) -> list[str]:
    if found.twin is not None:
        return [f"Scores and verdicts are those of the file in onnxruntime. {found.told}"]
    return [] if stated else [f"The file gives scores and no gradients: {found.told} {_BLACK_BOX}"]


def _threshold(options: Options, head: Head) -> tuple[float | None, list[str]]:
    """Return the threshold of what is attacked, where one is said of the file's own output."""
    threshold = options.threshold
    if threshold is None or head.end != "sigmoid":
        return threshold, []
    if not 0 < threshold < 1:
        raise BadInput(
            f"threshold is {threshold:g}, and the file ends in a sigmoid: expected a number above 0 and below 1."
        )
    at = float(torch.logit(torch.tensor(threshold, dtype=torch.float64)))
    return at, [f"The threshold {threshold:g} of its probability is {at:.6g} of the score before the sigmoid."]
