from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from assay.core.budget import parse_budget
from assay.core.errors import BadInput
from assay.data import load_data
from assay.models import load_model
from assay.models.weights_file import read_safetensors
from assay.training import FitProgress, FitSettings, Training, new_network, train_standard


@pytest.fixture
def training() -> Training:
    settings = FitSettings(epochs=2, batch=50, learning_rate=1e-3)
    return Training("mnist-cnn", load_data("mnist/test", limit=300), 100, settings)


def test_it_ends_with_weights_that_say_where_they_come_from(training: Training, tmp_path: Path) -> None:
    done = train_standard(training, tmp_path, "assay train standard")
    path, log = done.path, done.log
    assert done.passes == 400
    assert log.seconds > 0
    assert path == tmp_path / "mnist-cnn.safetensors"
    assert len(log.epochs) == 2
    assert log.epochs[-1].validation_accuracy > 0.25
    state, facts = read_safetensors(path)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert facts["command"] == "assay train standard"
    assert facts["data"] == "mnist/test, 300 samples, the last 100 for validation"
    assert json.loads(facts["settings"])["learning_rate"] == 1e-3
    trained = load_model(f"file:{path}")
    assert (trained.input_shape, trained.mean, trained.std) == ((1, 28, 28), (0.0,), (1.0,))
    again = train_standard(training, tmp_path)
    assert load_model(f"file:{again.path}").digest == trained.digest


def test_networks_are_drawn_under_their_seed() -> None:
    before = torch.random.get_rng_state()
    first, second, third = (new_network("mnist-cnn", seed).state_dict()["0.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("validation", [0, 300, 500])
def test_both_parts_need_samples(training: Training, tmp_path: Path, validation: int) -> None:
    with pytest.raises(BadInput, match=f"validation is {validation} of 300 samples"):
        train_standard(dataclasses.replace(training, validation=validation), tmp_path)


def test_an_unknown_architecture_suggests_a_near_one(training: Training, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'mnist-cnn'"):
        train_standard(dataclasses.replace(training, architecture="mnist-cn"), tmp_path)


def test_architectures_of_torchvision_and_of_a_file(training: Training, tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text("from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n")
    mine = dataclasses.replace(training, architecture=f"{code}:net")
    path = train_standard(mine, tmp_path / "out").path
    # the network may normalise in its forward, where nobody sees it
    assert not {"mean", "std"} & read_safetensors(path)[1].keys()
    with pytest.raises(BadInput, match="the file names code to run"):
        load_model(f"file:{path}")
    for given in ({"arch": f"{code}:net"}, {"allow_pickle": True}):
        assert load_model(f"file:{path}", **given).module(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    zero, one = (next(new_network("torchvision:squeezenet1_0", seed, 7).parameters()) for seed in (0, 1))
    assert not torch.equal(zero, one)
    assert new_network("torchvision:squeezenet1_0", 0, 7)(torch.rand(1, 3, 64, 64)).shape == (1, 7)


NORMALISING = """
import assay
from torch import nn
from torchvision.transforms import Normalize

def layer():
    return nn.Sequential(Normalize((0.1307,), (0.3081,)), nn.Flatten(), nn.Linear(784, 10))

class Forward(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, x):
        return self.linear(((x - 0.1307) / 0.3081).flatten(1))

def described():
    return assay.Classifier(Forward(), mean=(0.1307,), std=(0.3081,))
"""


@pytest.mark.parametrize("factory", ["layer", "described"])
def test_a_file_says_how_its_network_normalises(training: Training, tmp_path: Path, factory: str) -> None:
    code = tmp_path / "mine.py"
    code.write_text(NORMALISING)
    done = train_standard(dataclasses.replace(training, architecture=f"{code}:{factory}"), tmp_path / "out")
    loaded = load_model(f"file:{done.path}?arch={code}:{factory}")
    assert loaded.mean == pytest.approx((0.1307,))
    assert loaded.std == pytest.approx((0.3081,))
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(loaded.module(x), done.module(x), rtol=1e-2, atol=1e-2)
    assert parse_budget("normalized 0.1").grey_levels(loaded.std) == pytest.approx(25.5 * 0.3081)


def test_code_edited_between_stop_and_resume_is_noticed(training: Training, tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(NORMALISING)
    mine = dataclasses.replace(training, architecture=f"{code}:layer")

    class Stop(Exception):
        pass

    def stop(now: FitProgress) -> None:
        if now.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train_standard(mine, tmp_path / "out", on_progress=stop)
    code.write_text(NORMALISING.replace("0.1307", "0.5"))
    with pytest.raises(BadInput, match=r"holds another training: \{'code of the architecture'"):
        train_standard(mine, tmp_path / "out")
    code.write_text(NORMALISING)
    assert len(train_standard(mine, tmp_path / "out").log.epochs) == 2
