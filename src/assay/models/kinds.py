"""The kinds of models that can be named: what each gives, what has to be installed, and what names it in a digest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

GRADIENTS, SCORES, SCORES_OR_LABELS = "gradients", "scores", "scores or labels"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model: `what` it is, what it `gives`, the `extra` it needs, what its `digest` is over, what it `lacks`.

    What it lacks is said to whoever would ask for it; "" where it lacks nothing.
    """

    what: str
    gives: str
    extra: str
    digest: str
    lacks: str


_WEIGHTS = "weights and structure"
_PROGRAM = f"{GRADIENTS} where the program has them, else {SCORES}"
_ENDPOINT = "address, model, version, form of the request"
_NO_WEIGHTS = "gradients, certificates, training; nobody sees whether the weights behind the address change"

KINDS: Mapping[str, Kind] = {
    "torchvision": Kind("a network of torchvision with its published weights", GRADIENTS, "", _WEIGHTS, ""),
    "timm": Kind("a network of timm with its published weights", GRADIENTS, "timm", _WEIGHTS, ""),
    "zoo": Kind("a small network that ships with Assay", GRADIENTS, "", _WEIGHTS, ""),
    "file": Kind("a safetensors file or state dict of a named architecture", GRADIENTS, "", _WEIGHTS, ""),
    "onnx": Kind(
        "an ONNX file, answered by onnxruntime", f"{GRADIENTS} where a conversion agrees with the file, else {SCORES}",
        "onnx", "the bytes of all its files", "training; gradients of quantised files and custom operators, unless a "
        "twin is named",
    ),
    "hf": Kind(
        "a Hugging Face folder, or a model of the hub at a revision", GRADIENTS, "hf", "weights, structure and config",
        "code of the model's own, heads that are missing, several labels per image",
    ),
    "pt2": Kind(
        "a program of torch.export (it can run code: --allow-pickle)", _PROGRAM, "", "weights and program",
        "train mode, and gradients that the export dropped",
    ),
    "torchscript": Kind(
        "a TorchScript file (it can run code: --allow-pickle)", _PROGRAM, "", "weights and program",
        "train mode; gradients of scripts optimised for inference",
    ),
    "keras": Kind(
        "a Keras 3 or HDF5 file, on Keras's torch backend", GRADIENTS, "keras", "the file's bytes",
        "layers of TensorFlow's own; Lambda layers run code (--allow-pickle)",
    ),
    "litert": Kind(
        "a TFLite file, quantised or not, answered by LiteRT", f"{SCORES}, and {GRADIENTS} with a twin", "litert",
        "the file's bytes", "gradients of its own, certificates, training",
    ),
    "v2": Kind("a server of the Open Inference Protocol", SCORES_OR_LABELS, "remote", _ENDPOINT, _NO_WEIGHTS),
    "v1": Kind(
        "a server of version 1 of the protocol (TensorFlow Serving)", SCORES_OR_LABELS, "remote", _ENDPOINT, _NO_WEIGHTS
    ),
    "remote": Kind("an endpoint that a file describes", SCORES_OR_LABELS, "remote", _ENDPOINT, _NO_WEIGHTS),
    "python": Kind(
        "a function in your file, or in a package, that returns a torch.nn.Module or an assay.Classifier",
        "what it says: access=gradient, scores or labels", "", "weights, structure, and the code of its file",
        "what the module does not give; a module without weights names what it answers from as its identity",
    ),
}  # fmt: skip
"""One line for each scheme of `load.SCHEMES`, and `python` for code of the user's own."""


def install(extra: str) -> str:
    """Return the command that installs an extra; "" for none."""
    return f"pip install 'assay[{extra}]'" if extra else ""
