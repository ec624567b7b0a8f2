from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models.weights_file import fill, read_safetensors, read_torch, save_weights, state_in


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    save_weights(network(), tmp_path / "w.safetensors", {"arch": "a"})
    state, facts = read_safetensors(tmp_path / "w.safetensors")
    assert facts == {"arch": "a"}
    assert all(torch.equal(state[name], value) for name, value in network().state_dict().items())


def test_equal_weights_and_facts_are_equal_bytes(tmp_path: Path) -> None:
    facts = {f"fact {i}": str(i) for i in range(20)}
    for i in range(3):
        save_weights(network(), tmp_path / f"{i}.safetensors", facts if i else dict(reversed(facts.items())))
    assert len({(tmp_path / f"{i}.safetensors").read_bytes() for i in range(3)}) == 1


def test_rounding_touches_floating_point_alone(tmp_path: Path) -> None:
    module = network()
    save_weights(module, tmp_path / "w.safetensors", {}, torch.float16)
    state, _ = read_safetensors(tmp_path / "w.safetensors")
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(state["0.weight"], network().state_dict()["0.weight"].half())
    fill(module, state, "w")
    assert module[0].weight.dtype == torch.float32  # type: ignore[index, union-attr]


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\xff" * 100])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(BadInput, match="no readable safetensors"):
        read_safetensors(tmp_path / "w")
    with pytest.raises(BadInput, match=r"no readable file of torch.save|could run code"):
        read_torch(tmp_path / "w", allow_pickle=False)
    with pytest.raises(BadInput, match=r"no readable file of torch.save"):
        read_torch(tmp_path / "w", allow_pickle=True)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "extra": Malicious(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=r"could run code.*GLOBAL.*--allow-pickle"):
        read_torch(tmp_path / "w.pt", allow_pickle=False)
    assert not (tmp_path / "ran").exists()
    read_torch(tmp_path / "w.pt", allow_pickle=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net"])
def test_state_dicts_are_found_in_checkpoints(key: str) -> None:
    state = network().state_dict()
    parallel = {f"module.{name}": value for name, value in state.items()}
    assert state_in({key: parallel, "epoch": 3}, Path("a")).keys() == state.keys()
    assert state_in(state, Path("a")).keys() == state.keys()


@pytest.mark.parametrize("value", [{}, [1], {"epoch": 3, "best": 0.5}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="expected a state dict"):
        state_in(value, Path("a.pt"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("0.weight"), "lacking 0.weight"),
        (lambda state: state.update({"9.weight": torch.zeros(1)}), "unexpected 9.weight"),
        (lambda state: state.update({"0.bias": torch.zeros(3)}), r"0.bias: \(3,\) in the file, \(2,\) in the arch"),
    ],
)
def test_weights_of_another_architecture_are_refused(change: Any, says: str) -> None:
    state = dict(network().state_dict())
    change(state)
    module = network()
    with pytest.raises(BadInput, match=says):
        fill(module, state, "w.pt")
    assert torch.equal(module[0].bias, network()[0].bias)  # type: ignore[index, arg-type]


def test_old_files_without_batch_counters_fit() -> None:
    state = {name: value + 1 for name, value in network().state_dict().items() if "num_batches" not in name}
    module = network()
    fill(module, state, "w.pt")
    assert torch.equal(module[0].bias, state["0.bias"])  # type: ignore[index, arg-type]
