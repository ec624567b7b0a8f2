from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models.loaders.untrained import is_code, takes_classes, untrained

CODE = """
from torch import nn
from torchvision.transforms import Normalize
import assay
from assay.models import Normalized

def plain():
    return nn.Flatten()

def normalised():
    return nn.Sequential(Normalize((0.25,), (0.5,)), nn.Flatten())

def twice():
    return nn.Sequential(Normalize((0.25,), (0.5,)), Normalized(nn.Flatten(), (0.1,), (0.2,)))

def described():
    return assay.Classifier(nn.Flatten(), mean=(0.1,), std=(0.2,))
"""


@pytest.mark.parametrize(
    ("arch", "code", "classes"),
    [
        ("mnist-cnn", False, False),
        ("torchvision:resnet18", False, True),
        ("timm:resnet10t", False, True),
        ("my.py:net", True, False),
        ("package.nets:small", True, False),
    ],
)
def test_what_each_kind_of_architecture_is(arch: str, code: bool, classes: bool) -> None:
    assert (is_code(arch), takes_classes(arch)) == (code, classes)


def test_the_users_code_with_the_normalisation_it_has_inside(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(CODE)
    found = {name: untrained(f"{tmp_path}/nets.py:{name}") for name in ("plain", "normalised", "twice", "described")}
    assert {name: (one.mean, one.std) for name, one in found.items()} == {
        "plain": (None, None),
        "normalised": ((0.25,), (0.5,)),
        "twice": (None, None),
        "described": ((0.1,), (0.2,)),
    }
    assert len({one.code for one in found.values()}) == 1
    (tmp_path / "nets.py").write_text(CODE + "# edited\n")
    assert untrained(f"{tmp_path}/nets.py:plain").code not in ("", found["plain"].code)


def test_our_own_networks_have_no_code_and_nothing_inside() -> None:
    torch.manual_seed(0)
    made = untrained("mnist-cnn")
    assert (made.code, made.mean, made.spec) == ("", None, "mnist-cnn")
    assert isinstance(made.module, nn.Sequential)


@pytest.mark.parametrize("arch", ["mnist-cnn", "mnist-cnn-half", "{folder}/nets.py:plain"])
def test_classes_where_the_architecture_does_not_take_them(tmp_path: Path, arch: str) -> None:
    (tmp_path / "nets.py").write_text(CODE)
    with pytest.raises(BadInput, match=r"classes is 7, and '.*' has the number of outputs.*Leave it out"):
        untrained(arch.format(folder=tmp_path), 7)
