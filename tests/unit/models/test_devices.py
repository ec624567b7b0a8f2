from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assay.core.errors import BadInput
from assay.models import devices
from assay.models.devices import (
    check_device,
    devices_here,
    let_go_of_memory,
    of_another_device,
    read_devices,
    use_device,
)


class Cards(SimpleNamespace):
    """What torch gives for a kind of device: two cards, and notes of what was asked of them."""

    def __init__(self) -> None:
        super().__init__(current=0, emptied=0)

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def set_device(self, at: int) -> None:
        self.current = at

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """A machine with two GPUs, as far as torch is asked which devices there are."""
    made, real = Cards(), torch.get_device_module

    def module(device: torch.device) -> Any:
        return made if device.type == "cuda" else real(device)

    monkeypatch.setattr(torch, "get_device_module", module)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    return made


def test_devices_of_a_text_or_a_list(cards: Cards) -> None:
    assert devices_here() == ["cpu", "cuda:0", "cuda:1"]
    assert read_devices("cuda:0, cuda:1") == read_devices(["cuda:0", "cuda:1"]) == ("cuda:0", "cuda:1")
    assert read_devices("cpu,cpu") == ("cpu", "cpu")
    assert read_devices("cuda") == ("cuda",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cuda:0,cuda:2", "'cuda:2' is not on this machine. There are: cpu, cuda:0, cuda:1."),
        ("cpu:1", "'cpu:1' is not on this machine"),
        ("cuda:0,cpu", r"of several kinds \(cuda and cpu\), which round differently"),
        ("cuda:0,", "expected one or more, such as"),
        ("", "expected one or more"),
        ([], "expected one or more"),
        ("gpu:0", "'gpu:0' cannot be used here: Expected one of cpu, cuda"),
        ("meta", "'meta' cannot be used here"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(cards: Cards, given: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_devices(given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_card_there_is_the_cpu_alone() -> None:
    with pytest.raises(BadInput, match=r"The device 'cuda:0' is not on this machine\. There are: cpu"):
        check_device("cuda:0")


def test_a_worker_makes_its_device_the_current_one_and_lets_go_of_memory(cards: Cards) -> None:
    use_device("cuda:1")
    assert cards.current == 1
    use_device("cuda")  # whichever is the current one
    use_device("cpu")
    assert cards.current == 1
    let_go_of_memory("cuda:0")
    let_go_of_memory("cpu")
    let_go_of_memory(None)
    assert cards.emptied == 1


def test_errors_of_another_device_are_told_from_others() -> None:
    mixed = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
    convolved = "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same"
    missing = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
    for text in (mixed, convolved, missing, "CUDA error: invalid device ordinal"):
        assert of_another_device(RuntimeError(text))
    assert of_another_device(AssertionError("Torch not compiled with CUDA enabled"))
    assert not of_another_device(RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x192 and 75x3)"))
    assert not of_another_device(ValueError(mixed))
    # types that differ are no question of where
    assert not of_another_device(RuntimeError("Input type (double) and bias type (float) should be the same"))
    assert devices.told_devices().startswith("There are: cpu")
