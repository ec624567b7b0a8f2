"""Views of data: how they are named, what they keep, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data.corruption import Corruption, Kept, corrupted, take_view

FOG = Corruption("fog", 3)


def test_a_view_is_named_behind_a_bar(tmp_path: Path) -> None:
    assert take_view("samples|fog:severity=3") == ("samples", FOG)
    assert take_view("folder:DIR?white=1|Gaussian_Noise:severity=0") == (
        "folder:DIR?white=1",
        Corruption("gaussian-noise", 0),
    )
    assert take_view("mnist/test") == ("mnist/test", None)
    (tmp_path / "a|b").mkdir()
    assert take_view(f"folder:{tmp_path}/a|b") == (f"folder:{tmp_path}/a|b", None)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("samples|foggy:severity=3", "Unknown corruption 'foggy'. Did you mean 'fog'"),
        ("samples|fog", "expected SOURCE|fog:severity=3"),
        ("samples|fog:level=3", "expected SOURCE|fog:severity=3"),
        ("samples|fog:severity=6", "severity is 6, expected 0 to 5"),
        ("|fog:severity=3", "expected SOURCE|fog:severity=3"),
        ("mnist/test|snow:severity=3", "snow is no corruption of MNIST-C"),
        ("mnist/test|zigzag:severity=2", "zigzag of MNIST-C has severity 1 alone; got 2"),
    ],
)
def test_slips_are_named(source: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_data(source, limit=2)
    assert told in str(caught.value)


def test_ids_labels_and_selection_stay_and_the_fingerprint_tells() -> None:
    plain = load_data("mnist/test", sample=10)
    seen = load_data("mnist/test|fog:severity=3", sample=10)
    assert (seen.ids, seen.labels, seen.classes) == (plain.ids, plain.labels, plain.classes)
    others = [load_data(f"mnist/test|{one}", sample=10).fingerprint for one in ("fog:severity=2", "shear:severity=3")]
    assert len({plain.fingerprint, seen.fingerprint, *others}) == 4
    same = load_data("mnist/test|fog:severity=0", sample=10)
    assert same.fingerprint == plain.fingerprint
    assert torch.equal(same.read(3), plain.read(3))


def test_the_same_id_has_the_same_pixels_in_any_order_and_any_selection() -> None:
    many = load_data("mnist/test|spatter:severity=4", limit=20)
    backwards = {many.ids[at]: many.read(at) for at in reversed(range(20))}
    few = load_data("mnist/test|spatter:severity=4", ids=[many.ids[7], many.ids[2]])
    for at, name in enumerate(few.ids):
        assert torch.equal(few.read(at), backwards[name])
    assert not torch.equal(many.read(0), many.read(1))


def test_an_image_out_of_range_is_named_and_not_wrapped_around() -> None:
    data = load_data((torch.rand(4, 3, 32, 32) * 3, torch.zeros(4, dtype=torch.int64)))
    with pytest.raises(BadInput, match="expected \\[0, 1\\]"):
        corrupted(data, FOG).load([0])


def test_small_images_are_refused_before_any_is_read() -> None:
    data = load_data((torch.rand(4, 3, 31, 32), torch.zeros(4, dtype=torch.int64)))
    with pytest.raises(BadInput, match="31 x 32"):
        corrupted(data, FOG)


def test_what_is_kept_is_read_once_up_to_a_size() -> None:
    asked: list[int] = []

    def read(position: int) -> torch.Tensor:
        asked.append(position)
        return torch.full((4,), float(position))

    kept = Kept(read, most=2 * 16)
    for _ in range(2):
        assert [float(kept(at)[0]) for at in range(3)] == [0, 1, 2]
    assert asked == [0, 1, 2, 2]


def tree(root: Path, size: int = 32) -> Path:
    """Write an ImageNet-C tree of two corruptions, one of them below a folder between."""
    for place in ("gaussian_noise/1", "gaussian_noise/3", "weather/fog/3"):
        for synset in ("n01440764", "n02012849"):
            folder = root / place / synset
            folder.mkdir(parents=True)
            Image.new("RGB", (size, size), (len(place), 9, 9)).save(folder / "a.JPEG")
    return root


def test_a_published_tree_is_read_as_it_is(tmp_path: Path) -> None:
    data = load_data(f"imagenet-c:{tree(tmp_path)}|fog:severity=3")
    assert data.labels == (0, 134)
    assert data.ids == ("n01440764/a.JPEG", "n02012849/a.JPEG")
    assert len(data.read(0).unique()) <= 3
    assert data.read(0).shape == (3, 32, 32)
    for source, told in {
        "fog:severity=1": "has no fog:severity=1",
        "snow:severity=3": "Its corruptions: gaussian-noise, fog",
    }.items():
        with pytest.raises(BadInput, match=told):
            load_data(f"imagenet-c:{tmp_path}|{source}")
    with pytest.raises(BadInput, match="is a tree of many data sets"):
        load_data(f"imagenet-c:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="is no ImageNet-C tree"):
        load_data(f"imagenet-c:{tmp_path}/empty|fog:severity=3")


def test_a_tree_is_never_resized(tmp_path: Path) -> None:
    import dataclasses

    from torch import nn

    from assay.models.classifier import Classifier, Preprocess

    model = Classifier(nn.Flatten(), input_shape=(3, 32, 32), preprocess=Preprocess(resize=(40,), crop=(32, 32)))
    name = f"imagenet-c:{tree(tmp_path)}|gaussian-noise:severity=1"
    assert load_data(name, model=model).read(0).shape == (3, 32, 32)
    with pytest.raises(BadInput, match="32 x 32 pixels, and the model takes 24 x 24"):
        load_data(name, model=dataclasses.replace(model, input_shape=(3, 24, 24)))
