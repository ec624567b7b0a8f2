from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models import load_model

CODE = """
import torch
from torch import nn
import assay
from assay.models import Normalized
from helper import WIDTH

def factory():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 2))

def normalised():
    return Normalized(factory(), (0.5,), (0.25,))

def described():
    return assay.Classifier(factory(), input_shape=(1, 2, 2), mean=(0.0,), std=(1.0,), classes=("cat", "dog"))

def wrong():
    return 3

def fails():
    raise RuntimeError("no weights here")

def needs(one, other):
    return one

class Zoo:
    @staticmethod
    def small():
        return factory()

model = factory().train()
Network = nn.Identity
number = 7
"""


@pytest.fixture
def my(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("WIDTH = 4\n")
    (tmp_path / "my.py").write_text(CODE)
    return tmp_path / "my.py"


@pytest.fixture(autouse=True)
def _forget_helper() -> None:
    sys.modules.pop("helper", None)


@pytest.mark.parametrize("name", ["factory", "normalised", "described", "Zoo.small", "model"])
def test_factories_and_modules_of_a_file(my: Path, name: str) -> None:
    path = list(sys.path)
    classifier = load_model(f"{my}:{name}")
    assert classifier.module(torch.zeros(1, 1, 2, 2)).shape == (1, 2)
    assert classifier.spec == f"{my}:{name}"
    assert not classifier.module.training
    assert sys.path == path


def test_what_is_known_about_each(my: Path) -> None:
    assert load_model(f"{my}:factory").mean is None
    assert load_model(f"{my}:normalised").mean == (0.5,)
    described = load_model(f"{my}:described")
    assert (described.input_shape, described.mean, described.classes) == ((1, 2, 2), (0.0,), ("cat", "dog"))
    options = load_model(f"{my}:factory?mean=0.5&std=0.25&size=2&channels=1")
    assert (options.mean, options.input_shape) == ((0.5,), (1, 2, 2))


def test_a_class_is_called_without_arguments(my: Path) -> None:
    assert isinstance(load_model(f"{my}:Network").module, nn.Identity)


def test_the_digest_changes_with_the_code(my: Path) -> None:
    before = load_model(f"{my}:factory").digest
    assert load_model(f"{my}:factory").digest == before
    my.write_text(CODE + "\n# another forward\n")
    assert load_model(f"{my}:factory").digest != before


def test_a_module_of_an_importable_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assay_test_nets").mkdir()
    (tmp_path / "assay_test_nets" / "small.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Flatten()\n"
    )
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_model("assay_test_nets.small:make").module, nn.Flatten)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("factoy", "my.py has no 'factoy'. Did you mean 'factory'"),
        ("wrong", r"returned int; expected a torch.nn.Module"),
        ("fails", r"failed: RuntimeError: no weights here \(my\.py:\d+\)"),
        ("needs", "failed: TypeError"),
        ("number", "is int; expected a function"),
        ("factory?sise=3", "Did you mean 'size'"),
        ("described?size=3", "describes itself"),
    ],
)
def test_what_goes_wrong_is_said(my: Path, name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_model(f"{my}:{name}")


def test_a_missing_file_suggests_its_neighbour(my: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no file .*mz.py.*Did you mean 'my.py'"):
        load_model(f"{my.parent}/mz.py:factory")


def test_code_that_does_not_import_is_said(my: Path) -> None:
    my.write_text("import no_such_package\n")
    with pytest.raises(BadInput, match=r"could not be imported: ModuleNotFoundError.*no_such_package"):
        load_model(f"{my}:factory")
    with pytest.raises(BadInput, match=r"no_such_package.nets could not be imported"):
        load_model("no_such_package.nets:factory")
