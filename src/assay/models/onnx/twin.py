"""An ONNX file's network in torch, which gives the gradients that onnxruntime does not."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.errors import BadInput, did_you_mean
from assay.models.onnx.graph import for_conversion
from assay.models.onnx.reading import OnnxFile
from assay.models.onnx.session import Intake

NONE = "none"


class Twin(nn.Module):
    """The converted network behind what its file's input is made of: `[N, C, H, W]` in [0, 1] -> `[N, K]`.

    Rounding to whole numbers is left out: it has no gradient. `rows` as of a `Session`.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, network: nn.Module, intake: Intake, rows: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.intake = intake
        self.rows = rows
        for name in ("mean", "std"):
            values = getattr(intake, name)
            self.register_buffer(name, None if values is None else torch.tensor(values).view(-1, 1, 1), False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of images."""
        n, intake = len(x), self.intake
        if intake.whole_numbers:
            x = x * 255
        elif self.mean is not None and self.std is not None:
            x = (x - self.mean) / self.std
        if intake.reverse:
            x = x.flip(1)
        if intake.layout == "nhwc":
            x = x.permute(0, 2, 3, 1)
        elif intake.layout == "flat":
            x = x.reshape(n, *intake.shape)
        if intake.dtype == "float64":
            x = x.double()
        rows = self.rows or max(n, 1)
        missing = -n % rows
        if missing:
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
        # layers of converters warn of what is torch's or their own business
        with warnings.catch_warnings(action="ignore"):
            parts = [self.network(x[at : at + rows] if rows < len(x) else x) for at in range(0, len(x), rows)]
        scores: Tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return scores[:n].reshape(n, -1)

    def extra_repr(self) -> str:
        """Say what is done to images."""
        return f"{self.intake}, rows={self.rows}"


class _Bounded(nn.Module):
    """`Clip` with plain numbers: one comparison backwards where tensors as bounds take eight."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low = low
        self.high = high

    def forward(self, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        least, most = (None if one is None else float(one) for one in (_or(low, self.low), _or(high, self.high)))
        if least == 0 and most is None:
            return F.relu(x)
        if least is None or most is None:
            return torch.clamp(x, least, most)
        return F.hardtanh(x, least, most)

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}"


def _or(given: Any, own: Any) -> Any:
    return own if given is None else given


def _by_onnx2pytorch(proto: Any) -> nn.Module:
    from onnx2pytorch import ConvertModel
    from onnx2pytorch.operations.clip import Clip

    network: nn.Module = ConvertModel(proto)
    for around in network.modules():
        for name, part in around.named_children():
            if isinstance(part, Clip):
                # names of layers may hold dots here
                around._modules[name] = _Bounded(*(vars(part)[key] for key in ("min", "max")))
    return network


def _by_onnx2torch(proto: Any) -> nn.Module:
    import onnx2torch

    network: nn.Module = onnx2torch.convert(proto)
    return network


def _slimmed(proto: Any) -> Any:
    import onnxslim

    return onnxslim.slim(proto)


@dataclasses.dataclass(frozen=True)
class Converter:
    """One way from a whole ONNX graph to a network of torch, and the libraries that it goes through."""

    convert: Callable[[Any], nn.Module]
    libraries: tuple[str, ...]

    @property
    def written(self) -> str:
        """The libraries with their versions."""
        return " and ".join(f"{name} {importlib.metadata.version(name)}" for name in self.libraries)


CONVERTERS: dict[str, Converter] = {
    "onnx2pytorch": Converter(_by_onnx2pytorch, ("onnx2pytorch",)),
    "onnx2torch": Converter(_by_onnx2torch, ("onnx2torch",)),
    "onnxslim+onnx2pytorch": Converter(lambda proto: _by_onnx2pytorch(_slimmed(proto)), ("onnxslim", "onnx2pytorch")),
    "onnxslim+onnx2torch": Converter(lambda proto: _by_onnx2torch(_slimmed(proto)), ("onnxslim", "onnx2torch")),
}
"""In the order in which they are tried: onnxslim rewrites the graph, and has been seen to change what it computes."""


def check_converter(name: str) -> None:
    """Raise `BadInput` for a converter that there is not."""
    names = [*CONVERTERS, NONE]
    if name not in names:
        raise BadInput(f"Unknown converter {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}.")


def networks(file: OnnxFile, tensor: str, names: tuple[str, ...]) -> Iterator[tuple[str, nn.Module | str]]:
    """Yield for each converter the network that it makes of what leads to `tensor`, in eval mode, or why there is none.

    What converters and torch warn of is left unsaid: every network is compared with the file anyway.
    """
    for name in names:
        try:
            with warnings.catch_warnings(action="ignore"):
                network = CONVERTERS[name].convert(for_conversion(file.whole(), tensor))
            yield name, network.eval().requires_grad_(False)
        except Exception as error:
            # whatever a converter raises on a graph that it cannot read
            yield name, why(error)


def why(error: Exception) -> str:
    """Return an error of a converter, or of what it made, in one line."""
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {told}"[:160]
