"""Our cascade and our certificate on a benchmark that verifiers have answered: sound, and how much is found.

Usage: python -m benchmarks.verified DIR [--attack cascade] [--certificate crown] [--out FILE]

DIR is a folder of the verification competition VNN-COMP: `instances.csv`, networks as ONNX, properties as `.vnnlib`,
and `answers*.csv`. Every counterexample is judged by onnxruntime on the file itself, at a float32 point of the box.
The exit code is 1 where something that is proved is broken, or something that is broken is certified.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.attacks import build
from assay.case import Case
from assay.core.compose import run
from assay.core.errors import BadInput
from assay.core.norms import NORMS
from assay.core.search import Keeps
from assay.core.threat import Threat
from benchmarks.vnnlib import SAFE, UNKNOWN, UNSAFE, Instance, Property, content, read_instances, read_property

HERE = Path(__file__).parent
# of the range of the scores: converted and deployed network are one
AGREEMENT = 1e-4
CERTIFICATE = "crown"


@dataclasses.dataclass(frozen=True)
class Network:
    """An ONNX file twice: as torch has it, on images `[N, *shape]`, and as onnxruntime answers, which judges."""

    module: nn.Module
    shape: tuple[int, ...]
    answers: Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of an instance: whether it was broken or certified, and the passes and seconds of the attack."""

    instance: Instance
    broken: bool
    certified: bool | None
    forwards: int
    backwards: int


class Chosen(nn.Module):
    """A network's scores of some classes, in that order."""

    def __init__(self, inside: nn.Module, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.inside, self.classes = inside, list(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores `[N, len(classes)]`."""
        scores: Tensor = self.inside(x)[:, self.classes]
        return scores


class Shaped(nn.Module):
    """A network behind a change of shape."""

    def __init__(self, inside: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.inside, self.shape = inside, shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's answer."""
        answer: Tensor = self.inside(x.reshape(len(x), *self.shape))
        return answer


def read_network(data: bytes, name: str) -> Network:
    """Return an ONNX network, converted by onnx2torch, whose answers are compared with onnxruntime's.

    Images are squares of one channel where the file has no shape of an image. Raises `BadInput` where they differ.
    """
    import onnx
    import onnxruntime
    from onnx2torch import convert

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (asked,) = session.get_inputs()
    own = tuple(int(side) for side in asked.shape[1:])
    size = math.prod(own)
    side = math.isqrt(size)
    shape = own if len(own) == 3 else (1, side, side) if side * side == size else (1, 1, size)
    module = convert(onnx.load_from_string(data)).eval().requires_grad_(False)
    # a network that begins with nn.Flatten takes any shape, and bounds know that layer
    if own != shape and not isinstance(next(module.children()), nn.Flatten):
        module = Shaped(module, own)

    def answers(points: Tensor) -> Tensor:
        rows = [session.run(None, {asked.name: one.reshape(1, *own).numpy()})[0] for one in points]
        return torch.from_numpy(np.concatenate(rows))

    points = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    deployed = answers(points)
    apart = float((module(points) - deployed).abs().max() / (deployed.max() - deployed.min()))
    if not apart <= AGREEMENT:
        raise BadInput(f"{name}: onnx2torch and onnxruntime differ by {apart:.1g} of the range of the scores.")
    return Network(module, shape, answers)


def breaks(network: Network, asked: Property, z: Tensor) -> bool:
    """Return whether a point is a counterexample once it lies in the box, in the eyes of onnxruntime."""
    point = asked.nearest(z.flatten())
    scores = network.answers(point.reshape(1, *network.shape))[0]
    return bool((scores[list(asked.others)] >= scores[asked.label]).any())


def measure(
    folder: Path, attack: str, certificate: str, seed: int = 0, instances: list[Instance] | None = None
) -> list[Outcome]:
    """Attack and certify the instances of a folder, those of a network and of the same classes together."""
    instances = read_instances(folder) if instances is None else instances
    asked = {one.property: read_property(content(folder / one.property).decode()) for one in instances}
    outcomes: dict[Instance, Outcome] = {}
    for name in dict.fromkeys(one.network for one in instances):
        network = read_network(content(folder / name), name)
        own = [one for one in instances if one.network == name]
        classes = {one.property: _classes(asked[one.property], network) for one in own}
        for chosen in dict.fromkeys(classes.values()):
            group = [one for one in own if classes[one.property] == chosen]
            print(f"  {name}: {len(group)} instances", file=sys.stderr, flush=True)
            outcomes |= _together(network, chosen, [(one, asked[one.property]) for one in group], attack, seed)
        outcomes |= _certified(network, [outcomes[one] for one in own], asked, certificate)
    return [outcomes[one] for one in instances]


def _classes(asked: Property, network: Network) -> tuple[int, ...] | None:
    # None for every class but the label: the network as it is
    count = network.answers(torch.zeros(1, *network.shape)).shape[1]
    every = {asked.label, *asked.others} == set(range(count))
    return None if every else (asked.label, *asked.others)


def _balls(pairs: Iterable[Property], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    balls = [one.ball() for one in pairs]
    return torch.stack([x.float().reshape(shape) for x, _ in balls]), torch.tensor([eps for _, eps in balls])


def _together(
    network: Network,
    chosen: tuple[int, ...] | None,
    group: list[tuple[Instance, Property]],
    attack: str,
    seed: int,
) -> dict[Instance, Outcome]:
    x, eps = _balls((one for _, one in group), network.shape)
    y = torch.tensor([one.label if chosen is None else 0 for _, one in group])
    module = network.module if chosen is None else Chosen(network.module, chosen)
    method = build(attack)
    settings = {"seed": seed, "ids": [one.name for one, _ in group]}
    case = Case.of(method, module, x, y, Threat(NORMS["linf"], eps), settings)
    with case.classifier.held():
        found = run(method, case.problem, case.draws, keeps=Keeps.FIRST)
    counts = zip(found.x, found.forwards.tolist(), found.backwards.tolist(), strict=True)
    return {
        one: Outcome(one, breaks(network, asked, z), None, forwards, backwards)
        for (one, asked), (z, forwards, backwards) in zip(group, counts, strict=True)
    }


def _certified(
    network: Network, outcomes: list[Outcome], asked: dict[str, Property], certificate: str
) -> dict[Instance, Outcome]:
    from assay.certification import CERTIFICATES, make_certificate
    from assay.core.draws import Draws
    from assay.core.goal import Untargeted
    from assay.core.problem import Problem
    from assay.models.load import undigested_model

    if certificate not in CERTIFICATES:
        return {one.instance: one for one in outcomes}
    classifier, method = undigested_model(network.module), make_certificate(certificate, {})
    told = {}
    for one in outcomes:
        box = asked[one.instance.property]
        x, eps = _balls([box], network.shape)
        threat = Threat(NORMS["linf"], float(eps))
        problem = Problem(classifier.oracle(None), x, Untargeted(torch.tensor([box.label])), threat)
        with classifier.held():
            proved = method.prove(classifier, problem, [float(eps)], Draws.of([one.instance.name], 0))
        told[one.instance] = dataclasses.replace(one, certified=bool(proved.certified[0, 0]))
    return told


def contradictions(outcomes: list[Outcome]) -> list[str]:
    """Return the instances of which two things are said that cannot both be true."""
    told = []
    for one in outcomes:
        if one.broken and one.instance.answer == SAFE:
            told.append(f"{one.instance.name}: broken, and proved by a verifier")
        if one.certified and (one.broken or one.instance.answer == UNSAFE):
            by = "us" if one.broken else "a verifier"
            told.append(f"{one.instance.name}: certified, and broken by {by}")
    return told


def page(name: str, attack: str, certificate: str, outcomes: list[Outcome], seconds: float) -> str:
    """Return the outcome as Markdown."""
    groups = {answer: [one for one in outcomes if one.instance.answer == answer] for answer in (SAFE, UNSAFE, UNKNOWN)}
    lines = [
        f"# {name}, answered by verifiers",
        "",
        f"Written by `make bench-verified`: {len(outcomes)} instances attacked by `{attack}`, bounded by "
        f"`{certificate}`. Every counterexample is judged by onnxruntime on the file, at a float32 point of the box.",
        "",
        f"| answer of the verifiers | instances | broken by {attack} | certified by {certificate} |",
        "|---|---:|---:|---:|",
    ]
    for answer, own in groups.items():
        known = [one.certified for one in own if one.certified is not None]
        certified = str(sum(known)) if known else "not run" if own else "0"
        lines.append(f"| {answer} | {len(own)} | {sum(one.broken for one in own)} | {certified} |")
    forwards, backwards = (
        f"{sum(counts) / len(outcomes):.0f}"
        for counts in ([one.forwards for one in outcomes], [one.backwards for one in outcomes])
    )
    missed = [one.instance.name for one in groups[UNSAFE] if not one.broken]
    lines += [
        "",
        f"Passes per instance: {forwards} forwards and {backwards} backwards; {seconds:.0f} s, one thread.\n",
        f"Known to be unsafe and not found: {', '.join(missed) or 'none'}.\n",
        f"Contradictions: {'; '.join(contradictions(outcomes)) or 'none'}.\n",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run a folder."""
    parser = argparse.ArgumentParser(description="Attack and certificate on a benchmark with verifiers' answers.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="instances.csv, networks, properties, answers*.csv")
    parser.add_argument("--attack", default="cascade", help="a name of `assay attacks`")
    parser.add_argument("--certificate", default=CERTIFICATE, help="a method of certification")
    parser.add_argument("--seed", type=int, default=0, help="of the attack's random numbers (default: 0)")
    parser.add_argument("--out", type=Path, help="a file for the page, besides printing it")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        outcomes = measure(asked.folder, asked.attack, asked.certificate, asked.seed)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    name = asked.folder.resolve().name
    told = page(name, asked.attack, asked.certificate, outcomes, time.perf_counter() - began)
    packages: dict[str, Any] = {one: version(one) for one in ("torch", "onnx2torch", "onnxruntime")}
    told += f"{', '.join(f'{one} {number}' for one, number in packages.items())}.\n"
    print(told)
    if asked.out:
        asked.out.write_text(told, encoding="utf-8")
    return 1 if contradictions(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
