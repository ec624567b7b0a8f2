from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from assay.models.classifier import Classifier, digest_of


def network(seed: int = 0, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), activation(), nn.BatchNorm2d(2), nn.Flatten())


def changed_weight() -> nn.Module:
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1e-6  # type: ignore[index, union-attr, operator]
    return module


def changed_buffer() -> nn.Module:
    module = network()
    module[2].running_mean += 1  # type: ignore[index, union-attr, operator]
    return module


@pytest.mark.parametrize(
    "other",
    [
        Classifier(network(1)),
        Classifier(changed_weight()),
        Classifier(changed_buffer()),
        Classifier(network(0, nn.GELU)),
        Classifier(network().half()),
        Classifier(network(), mean=(0.5,), std=(0.5,)),
        Classifier(network(), outputs="probabilities"),
        Classifier(network(), code="another file"),
    ],
)
def test_the_digest_changes_with_what_answers_depend_on(other: Classifier) -> None:
    assert digest_of(other) != digest_of(Classifier(network()))


def test_the_digest_does_not_change_with_mode_format_or_name() -> None:
    module = network().eval().to(memory_format=torch.channels_last)
    assert digest_of(Classifier(module, spec="a", digest="b")) == digest_of(Classifier(network()))


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "from torch import nn; from assay.models.classifier import *\n"
        "class Printed(nn.Module):\n"
        "    def extra_repr(self): return repr(digest_of)\n"
        "print(digest_of(Classifier(Printed())))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    class Printed(nn.Module):
        def extra_repr(self) -> str:
            return repr(digest_of)  # with the address that it has in this process

    assert there.stdout.strip() == digest_of(Classifier(Printed()))


def test_bfloat16_and_empty_states_have_digests() -> None:
    assert digest_of(Classifier(network().bfloat16())) != digest_of(Classifier(nn.Flatten()))
