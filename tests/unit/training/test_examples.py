from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data.mnist import mnist
from assay.training.dataset_view import FromData, InMemory, Kept


def test_tensors_and_data_give_the_same_batches() -> None:
    images, labels = mnist("test")
    held, read = InMemory(images[5:25], labels[5:25]), FromData(load_data("mnist/test"), 5, 25)
    assert len(held) == len(read) == 20
    at = torch.tensor([19, 0, 7])
    for one, other in zip(held.batch(at), read.batch(at), strict=True):
        assert torch.equal(one, other)


def test_floating_point_images_and_soft_labels_pass_through() -> None:
    examples = InMemory(torch.rand(4, 1, 2, 2), torch.rand(4, 3))
    x, y = examples.batch(torch.tensor([3]))
    assert torch.equal(x[0], examples.images[3])
    assert torch.equal(y[0], examples.targets[3])


def test_fingerprints_follow_the_content() -> None:
    x, y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 3])
    before = InMemory(x, y).fingerprint
    assert InMemory(x.clone(), y.clone()).fingerprint == before
    assert InMemory(x + 1, y).fingerprint != before
    assert InMemory(x, y.flip(0)).fingerprint != before
    data = load_data("mnist/test", limit=30)
    assert FromData(data, 0, 20).fingerprint != FromData(data, 20, 30).fingerprint


def test_a_picture_that_cannot_be_read_cannot_be_trained_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").write_bytes(b"")
    examples = FromData(load_data(f"folder:{tmp_path}"), 0, 2)
    assert examples.batch(torch.tensor([0]))[0].shape == (1, 3, 4, 4)
    with pytest.raises(BadInput, match=r"a/1.png' cannot be trained on"):
        examples.batch(torch.tensor([0, 1]))


def test_kept_examples_are_read_once_while_there_is_room() -> None:
    read: list[int] = []

    class Counted:
        fingerprint = "counted"

        def __len__(self) -> int:
            return 6

        def batch(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            read.extend(positions.tolist())
            return positions.float().view(-1, 1, 1, 1), positions

    kept = Kept(Counted(), most=3 * 4)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [5, 0, 4, 1]):
        images, labels = kept.batch(torch.tensor(order))
        assert labels.tolist() == order and images.flatten().tolist() == order
    assert read == [0, 1, 2, 3, 3, 5, 4]
    assert (kept.fingerprint, len(kept)) == ("counted", 6)


def test_nothing_is_kept_where_there_is_no_room() -> None:
    examples = InMemory(torch.rand(4, 1, 2, 2), torch.arange(4))
    kept = Kept(examples, most=0)
    for _ in range(2):
        images, labels = kept.batch(torch.tensor([2, 0, 2]))
        assert torch.equal(images, examples.images[[2, 0, 2]]) and labels.tolist() == [2, 0, 2]
    assert not kept._kept and kept.fingerprint == examples.fingerprint
