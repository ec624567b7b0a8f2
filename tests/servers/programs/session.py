"""What every server's program here shares: the models that it is told to serve, each an ONNX file.

These programs run in the environments of the servers, which have neither Assay nor torch.
"""

import dataclasses
import json
import pathlib

import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "UINT8": np.uint8}


@dataclasses.dataclass(frozen=True)
class Served:
    """One model: its name, its file, and what its input and output are called and hold."""

    name: str
    file: str
    input: str
    output: str
    shape: list[int]
    classes: int
    datatype: str = "FP32"

    @property
    def dtype(self) -> type:
        """Return NumPy's name of the input's type."""
        return DTYPES[self.datatype]


def models(path: str) -> list[Served]:
    """Return the models that a file lists."""
    return [Served(**one) for one in json.loads(pathlib.Path(path).read_text())]


class Session:
    """An ONNX file in onnxruntime: one thread, so that an answer does not depend on the machine's load."""

    def __init__(self, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the first output of a batch."""
        return self.session.run(None, {self.input: np.ascontiguousarray(rows)})[0]
