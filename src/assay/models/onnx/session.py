"""An ONNX file that is asked through onnxruntime: images in, scores out, as the file lies on the disk."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.core.errors import BadInput, ModelError
from assay.models.deployed import Array
from assay.models.onnx.graph import Head, with_outputs
from assay.models.onnx.reading import OnnxFile, needed, read
from assay.models.static_batch import filled


@dataclasses.dataclass(frozen=True)
class Intake:
    """How images become the file's input: `[N, C, H, W]` in [0, 1], float32.

    `layout` is "nchw", "nhwc", or "flat": each image as `shape`, its values in the order of `[C, H, W]`. `dtype` is
    the input's; whole numbers mean 0 to 255, and images between two of them are rounded. `mean` and `std` (pixel units,
    per channel) are taken off first, and `reverse` says that the channels go in from the last.
    """

    name: str
    dtype: str = "float32"
    layout: str = "nchw"
    shape: tuple[int, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    reverse: bool = False

    @property
    def whole_numbers(self) -> bool:
        """Whether the file takes 0 to 255."""
        return not self.dtype.startswith("float")

    def of(self, images: Array) -> Array:
        """Return the file's input for images."""
        x = images
        if self.whole_numbers:
            x = np.rint(np.clip(x, 0, 1) * np.float32(255))
        elif self.mean is not None and self.std is not None:
            x = (x - column(self.mean)) / column(self.std)
        if self.reverse:
            x = x[:, ::-1]
        if self.layout == "nhwc":
            x = x.transpose(0, 2, 3, 1)
        elif self.layout == "flat":
            x = x.reshape(len(x), *self.shape)
        return np.ascontiguousarray(x, dtype=self.dtype)


def column(values: tuple[float, ...]) -> Array:
    """Return numbers per channel as `[C, 1, 1]`."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


class Session:
    """Scores `[N, K]` float32 of images float32 `[N, C, H, W]`, from onnxruntime.

    Made where it is first used in a process, on one thread unless torch has more. `rows` is how many images the file
    takes in one call, None for any number: others are filled up with copies of the last. `alone` asks about one image
    in a call. `half` says that the file computes in half precision, `random` that it was found to draw its answers,
    with the operators `draws`.
    """

    def __init__(
        self, file: OnnxFile, head: Head, intake: Intake, rows: int | None = None, alone: bool = False
    ) -> None:
        self.path, self.digest = file.path, file.digest
        self.head, self.intake, self.rows, self.alone = head, intake, rows, alone
        self.half, self.draws, self.random = file.half, file.draws, False
        self._proto = file.proto
        self._made: Any = None
        self._of_process: int | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Array) -> Array:
        """Return the tensor that is attacked, one row per image."""
        return self.asked(images, (self.head.tensor,))[0]

    def asked(self, images: Array, tensors: tuple[str, ...]) -> list[Array]:
        """Return several tensors of the graph, each `[N, K]`. Raises `ModelError` for what is no row per image."""
        given = self.intake.of(images)
        rows = 1 if self.alone else self.rows or len(given)
        parts = [self._run(given[at : at + rows], tensors) for at in range(0, len(given), max(1, rows))]
        return [np.concatenate(of_one) if len(of_one) > 1 else of_one[0] for of_one in zip(*parts, strict=True)]

    def _run(self, given: Array, tensors: tuple[str, ...]) -> list[Array]:
        n = len(given)
        whole = filled(given, self.rows)
        try:
            answers = self._session().run(list(tensors), {self.intake.name: whole})
        except BadInput:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.path.name} failed on an input {list(whole.shape)}: {_first_line(error)}"
            ) from error
        return [self._rows_of(one, len(whole))[:n] for one in answers]

    def _rows_of(self, answer: Any, n: int) -> Array:
        shape = answer.shape if isinstance(answer, np.ndarray) and answer.dtype.kind in "fiu" else ()
        # a map of scores per class is no class score, but one point of each is: [N, K, 1, 1]
        if not shape or shape[0] != n or answer.size != n * max(shape[1:], default=1):
            told = f"{list(answer.shape)} of {answer.dtype}" if isinstance(answer, np.ndarray) else "no tensor"
            raise ModelError(
                f"{self.path.name} answered {told} for {n} images, expected scores [{n}, K]. If another output holds "
                "them, name it: ?output=NAME."
            )
        return np.asarray(answer.reshape(n, -1), dtype=np.float32)

    def _session(self) -> Any:
        # a session does not outlive a fork: its locks may be held by threads that are not there
        with self._lock:
            if self._of_process != os.getpid():
                self._made, self._of_process = self._open(), os.getpid()
            return self._made

    def _open(self) -> Any:
        if self._proto is None:
            file = read(self.path, f"onnx:{self.path}")
            if file.digest != self.digest:
                raise ModelError(f"{self.path} is no longer the file that was loaded. Load the model again.")
            self._proto = file.proto
        there = {one.name for one in self._proto.graph.output}
        added = [one for one in dict.fromkeys((self.head.tensor, self.head.output.name)) if one not in there]
        return opened(self.path, with_outputs(self._proto, added).SerializeToString() if added else None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_proto": None, "_made": None, "_of_process": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_lock": threading.Lock()})

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        # answers the same whoever asks
        return self


def opened(path: Path, content: bytes | None = None) -> Any:
    """Return an onnxruntime session on a file, or on a changed graph whose weights lie beside it.

    Raises `BadInput` for a file that onnxruntime cannot run.
    """
    runtime = needed("onnxruntime", f"onnx:{path.name}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # what fails is raised as well, and its warnings are for who exports
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        given = content if content is not None else str(path)
        return runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = _first_line(error).replace(str(path), path.name)
        reason = said.replace(path.name, "").lower()
        advice = "Export it again, or install a newer onnxruntime."
        if "is not a registered function/op" in reason:
            advice = "onnxruntime lacks an operator of it: export it without operators of your own."
        elif "opset" in reason or "ir version" in reason:
            advice = "It was written by a newer exporter than this onnxruntime reads: pip install -U onnxruntime."
        elif "escapes model directory" in reason:
            advice = "Its weights are a link to another folder, as in a cache: copy both files themselves into one."
        elif "not_implemented" in reason:
            advice = "onnxruntime has that operator for other types of number alone: export the model in float32."
        raise BadInput(f"onnxruntime {runtime.__version__} cannot load {path}: {said} {advice}") from error


def _first_line(error: Exception) -> str:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return told if len(told) <= 300 else f"{told[:300]} …"
