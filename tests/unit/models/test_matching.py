from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models import Classifier, load_model
from assay.models.normalized import Normalized

NETWORK = """
from torch import nn
from assay.models import Normalized


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def inside():
    return Normalized(net(), (0.5,), (0.5,))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETWORK)
    return tmp_path


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def under(prefix: str, network: nn.Module | None = None) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in (network or net()).state_dict().items()}


def load(value: Any, more: str = "", arch: str = "net") -> Classifier:
    torch.save(value, "w.pt")
    return load_model(f"file:w.pt?arch=mine.py:{arch}{more}")


def assert_is(model: Classifier, network: nn.Module) -> None:
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(model.module(x), network.eval()(x))


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "model.", "net.", "encoder.", "a.b.c.", "module._orig_mod.", "ema.module."]
)
def test_a_prefix_of_all_names_is_left_out_with_a_note(place: Path, prefix: str) -> None:
    model = load(under(prefix))
    assert_is(model, net())
    assert model.notes


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "params", "ema_state_dict"])
def test_weights_nested_in_a_checkpoint(place: Path, key: str) -> None:
    assert_is(load({key: under("model."), "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}}), net())


def test_names_that_fit_are_left_alone(place: Path) -> None:
    for value in (under(""), under("module."), {"state_dict": under("module.")}):
        model = load(value)
        assert_is(model, net())
        assert model.notes == ()


def test_a_wrapper_in_the_middle_of_names(place: Path) -> None:
    state = {name.replace("3.", "3._orig_mod."): value for name, value in net().state_dict().items()}
    assert_is(load(state), net())


def test_what_is_beside_the_network_is_left_out_with_a_note(place: Path) -> None:
    model = load({"state_dict": {**under("model."), "criterion.weight": torch.ones(3)}})
    assert_is(model, net())
    assert any("1 tensors of the file are not part of the architecture and were left out: criterion" in note
               for note in model.notes)  # fmt: skip


def test_a_network_that_has_a_prefix_itself(place: Path) -> None:
    whole = Normalized(net(), (0.5,), (0.5,))
    for state in (whole.state_dict(), under(""), under("model."), under("model.", whole)):
        assert_is(load(state, arch="inside"), whole)
    assert any("'module.', which the file lacks" in note for note in load(under(""), arch="inside").notes)


def test_two_networks_that_fit_have_to_be_told_apart(place: Path) -> None:
    both = {**under("student."), **under("teacher.", net(1))}
    with pytest.raises(BadInput, match=r"2 sets of weights that fit.*&prefix=student or &prefix=teacher"):
        load(both)
    assert_is(load(both, "&prefix=teacher"), net(1))
    assert_is(load({**under("a."), **under("b.")}), net())  # equal ones need no choice


def test_averaged_weights_beside_the_usual_ones_are_noted_and_can_be_chosen(place: Path) -> None:
    checkpoint = {"state_dict": under(""), "state_dict_ema": under("", net(1))}
    model = load(checkpoint)
    assert_is(model, net())
    assert any("&prefix=state_dict_ema" in note for note in model.notes)
    assert_is(load(checkpoint, "&prefix=state_dict_ema"), net(1))


def test_a_small_part_of_a_file_is_taken_only_when_asked_for(place: Path) -> None:
    state = {**under("head."), "body.weight": torch.zeros(1000)}
    with pytest.raises(BadInput, match=r"9\d % of its numbers lie elsewhere.*&prefix=head"):
        load(state)
    assert_is(load(state, "&prefix=head"), net())


def test_a_prefix_that_no_name_has(place: Path) -> None:
    with pytest.raises(BadInput, match=r"No name in w.pt begins with 'ema.'; expected one of: model"):
        load(under("model."), "&prefix=ema")


def test_weights_that_fit_in_part_say_which_prefix_came_nearest(place: Path) -> None:
    state = under("backbone.")
    del state["backbone.3.weight"], state["backbone.3.bias"]
    with pytest.raises(BadInput, match=r"Without the prefix 'backbone.', 7 of the architecture's 9 tensors"):
        load(state)


def test_a_deeper_network_is_not_taken_for_its_beginning(place: Path) -> None:
    for prefix in ("", "model."):
        with pytest.raises(BadInput, match="do not fit the architecture"):
            load({**under(prefix), f"{prefix}4.weight": torch.zeros(3, 3)})


def test_other_shapes_are_refused_below_a_prefix_too(place: Path) -> None:
    with pytest.raises(BadInput, match="do not fit"):
        load({**under("model."), "model.3.bias": torch.zeros(4)})
