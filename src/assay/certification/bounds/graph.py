"""A network as a graph of operations, for bounds: read off the module while it answers."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from assay.certification.bounds.known import HANDLERS
from assay.certification.bounds.operations import Operation
from assay.certification.bounds.recording import Read, Recorder, Step, layer_names
from assay.core.errors import BadInput

# rows of a batch while it is recorded: no usual number of channels
_ROWS = 3

# the graph and the network may differ by so much of the largest logit: their sums have other orders
_ALIKE = 1e-4


@dataclasses.dataclass(frozen=True)
class Node:
    """An operation in its place: `inputs` are the numbers of the nodes that it takes (0 is the image itself).

    `shape` is that of its output for one image, `layer` the words for where it stands.
    """

    operation: Operation
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    layer: str


@dataclasses.dataclass(frozen=True)
class Graph:
    """The operations from the image (node 0, of `shape`) to the logits (the last node), each after its inputs."""

    shape: tuple[int, ...]
    nodes: tuple[Node, ...]

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.nodes[-1].shape[0]

    def shape_of(self, number: int) -> tuple[int, ...]:
        """Return the shape of a node's values."""
        return self.nodes[number - 1].shape if number else self.shape

    def values(self, images: Tensor) -> list[Tensor]:
        """Return every node's values `[N, *S]`, those of the image first, the logits last."""
        values = [images]
        for node in self.nodes:
            values.append(node.operation.forward(*(values[i] for i in node.inputs)))
        return values

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, K]`, in the precision of images and weights."""
        return self.values(images)[-1]

    @property
    def products(self) -> int:
        """How many multiplications one forward of one image takes."""
        return sum(math.prod(node.shape) * max(1, node.operation.terms) for node in self.nodes)


@dataclasses.dataclass(frozen=True)
class Recording:
    """The structure of a network: the operations that lead from an image of `shape` to the logits.

    Recorded once; weights are read anew by each `graph()`.
    """

    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    recorder: Recorder
    precision: torch.dtype

    def graph(self, dtype: torch.dtype | None = None) -> Graph:
        """Return the graph with the weights as they are now, in `dtype` (None: as they are).

        Where gradients are enabled, it is differentiable in the network's parameters.
        """
        read = self.recorder.read()

        def converted(value: object) -> object:
            given = read(value)
            return given.to(dtype or self.precision) if isinstance(given, Tensor) else given

        return Graph(self.shape, tuple(_node(step, converted) for step in self.steps))


def _node(step: Step, read: Read) -> Node:
    return Node(step.make(read), step.inputs, step.shape, step.layer)


def record(module: nn.Module, image: Tensor) -> Recording:
    """Return the structure of `module` in eval mode, for images like `image` (`[N, *S]`, of which the first is asked).

    Modes are put back. Raises `BadInput` for an operation of which bounds know nothing, naming the layer.
    """
    _refuse_compiled(module)
    asked = image[:1].detach().expand(_ROWS, *image.shape[1:]).clone()
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with layer_names(module) as layer, torch.no_grad():
            recorder = Recorder(asked, HANDLERS, layer)
            with recorder:
                logits = module(asked)
    finally:
        for part, mode in modes:
            part.training = mode
    last = recorder.number_of(logits)
    if last is None or logits.ndim != 2:
        raise BadInput(
            "There are no bounds for this network: its output does not depend on the image by operations that torch "
            "sees, or is no [N, K]. Keep its forward in torch, from the image to the logits."
        )
    return Recording(tuple(image.shape[1:]), _needed(recorder.steps, last), recorder, asked.dtype)


def check_graph(recording: Recording, module: nn.Module, images: Tensor) -> None:
    """Raise `BadInput` unless the graph answers as `module` (in eval mode) does: about `images` and about random ones.

    `images` `[N, *S]` are a few, with values in the range that the network is asked about.
    """
    noise = torch.Generator().manual_seed(0)
    low, high = float(images.min()), float(images.max())
    drawn = torch.rand((5, *images.shape[1:]), generator=noise) * max(high - low, 1.0) + low
    asked = torch.cat([images[:2].detach(), drawn.to(images)])
    with torch.no_grad():
        own = recording.graph(torch.float64).forward(torch.cat([asked, asked[:1]]).double())
        # an image alone has the answer that it has among others
        theirs = torch.cat([module(asked), module(asked[:1])]).double()
    scale = float(theirs.abs().max())
    if own.shape != theirs.shape or not bool(((own - theirs).abs() <= _ALIKE * max(scale, 1e-6)).all()):
        apart = float((own - theirs).abs().max()) if own.shape == theirs.shape else math.inf
        raise BadInput(
            f"There are no bounds for this network: its logits differ by {apart:.3g} from those of its operations as "
            "recorded, so its forward does something that depends on the image otherwise (a branch, another library, "
            "a state, random numbers). Keep its forward the same for every image."
        )


def _refuse_compiled(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule) or type(part).__name__ == "OptimizedModule":
            raise BadInput(
                f"There are no bounds for compiled code ({name or 'the model'} is a {type(part).__name__}): what it "
                "computes cannot be read off it. Give the module itself, as it was before torch.compile or torch.jit."
            )


def _needed(steps: list[Step], last: int) -> tuple[Step, ...]:
    # in their order, without those that the logits do not depend on
    needed: set[int] = set()
    waiting = [last]
    while waiting:
        number = waiting.pop()
        if number and number not in needed:
            needed.add(number)
            waiting.extend(steps[number - 1].inputs)
    new = {0: 0} | {old: i + 1 for i, old in enumerate(sorted(needed))}
    return tuple(
        dataclasses.replace(steps[old - 1], inputs=tuple(new[i] for i in steps[old - 1].inputs))
        for old in sorted(needed)
    )
