from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, load_data
from assay.models.classifier import Classifier

RNG = np.random.default_rng(2)
BYTES = RNG.integers(0, 256, (6, 7, 9, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 0, 2, 1])
WANTED = torch.from_numpy(BYTES.transpose(0, 3, 1, 2).copy()).float() / 255


def image(source: str, position: int = 4) -> torch.Tensor:
    (sample,) = load_data(source).load([position])
    assert isinstance(sample, Sample)
    return sample.image


def test_arrays_in_every_file_give_the_same_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=BYTES, labels=LABELS)
    np.savez_compressed(tmp_path / "b.npz", x=BYTES.transpose(0, 3, 1, 2), y=np.eye(3)[LABELS])
    np.save(tmp_path / "pixels.npy", (BYTES / np.float32(255)).transpose(0, 3, 1, 2))
    np.save(tmp_path / "classes.npy", LABELS[:, None])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["test/x"], file["test/y"] = BYTES, LABELS.astype(np.float64)
    sources = ["npz:{}/a.npz", "npz:{}/b.npz", "npz:{}/pixels.npy?label=classes.npy"]
    for source in [*sources, "hdf5:{}/c.h5?image=test/x&label=test/y"]:
        data = load_data(source.format(tmp_path))
        assert data.labels == tuple(LABELS.tolist())
        assert data.input_shape == (3, 7, 9)
        torch.testing.assert_close(image(source.format(tmp_path)), WANTED[4])
    last = load_data(f"npz:{tmp_path}/a.npz")
    assert any("read as [N, H, W, C]" in note for note in last.about_pictures)
    assert set(last.about_pictures) <= set(last.notes)
    assert any("one-hot" in note for note in load_data(f"npz:{tmp_path}/b.npz").notes)


def test_grey_images_and_another_white(tmp_path: Path) -> None:
    deep = RNG.integers(0, 4096, (6, 5, 5)).astype(np.uint16)
    np.savez(tmp_path / "d.npz", x=deep, y=LABELS, aim=2 - LABELS)
    with pytest.raises(BadInput, match=r"uint16; .*\?scale=4095 for 12 bits"):
        load_data(f"npz:{tmp_path}/d.npz")
    torch.testing.assert_close(
        image(f"npz:{tmp_path}/d.npz?scale=4095", 1)[0], torch.from_numpy(deep[1].astype(np.float32)) / 4095
    )
    assert load_data(f"npz:{tmp_path}/d.npz?scale=4095&target=aim", ids=["d.npz/00001"]).targets == (0,)


def test_the_models_shape_decides_which_axis_holds_channels(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", x=np.zeros((2, 3, 3, 3), np.uint8), y=[0, 1])
    assert load_data(f"npz:{tmp_path}/e.npz", model=Classifier(nn.Flatten(), input_shape=(3, 3, 3))).notes == ()
    np.savez(tmp_path / "f.npz", x=np.zeros((2, 4, 6, 2), np.uint8), y=[0, 1])
    model = Classifier(nn.Flatten(), input_shape=(2, 4, 6))
    assert load_data(f"npz:{tmp_path}/f.npz", model=model).input_shape == (2, 4, 6)


def test_the_content_names_every_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=BYTES, y=LABELS)
    before = load_data(f"npz:{path}").fingerprint
    other = BYTES.copy()
    other[5, 6, 8, 2] ^= 1
    np.savez(path, x=other, y=LABELS)
    assert load_data(f"npz:{path}").fingerprint != before
    assert load_data(f"npz:{path}", limit=5).fingerprint != before


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"x": BYTES}, "", "Which array of a.npz holds the labels"),
        ({"x": BYTES, "X": BYTES, "y": LABELS}, "", "several arrays that may be it: x, X"),
        ({"x": BYTES, "y": LABELS}, "?image=z", "has no array 'z'"),
        ({"x": BYTES, "y": LABELS}, "?imag=x", "Did you mean 'image'"),
        ({"x": BYTES, "y": LABELS[:3]}, "", r"has shape \[3\]; expected one class number for each of 6"),
        ({"x": BYTES, "y": LABELS - 1}, "", "the label -1"),
        ({"x": BYTES, "y": LABELS + 0.5}, "", "expected class numbers"),
        ({"x": BYTES[:, 0, 0], "y": LABELS}, "", r"shape \[6, 3\]; expected images"),
        ({"x": BYTES, "y": LABELS}, "?scale=0", "scale is '0'"),
        ({"x": np.array([None] * 6), "y": LABELS}, "", "Python objects are not read"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(tmp_path: Path, arrays: dict[str, object], options: str, says: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=says):
        load_data(f"npz:{tmp_path}/a.npz{options}")


def test_files_that_hold_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("no archive")
    (tmp_path / "a.h5").write_text("no archive")
    np.save(tmp_path / "x.npy", BYTES)
    for source, says in (
        ("npz:{}/a.npz", "is no .npz file"),
        ("hdf5:{}/a.h5", "cannot be read as an HDF5 file"),
        ("npz:{}/x.npy", r"give the labels too.*\?label=labels.npy"),
        ("npz:{}/b.npz", "There is no file .*Did you mean 'a.npz'"),
    ):
        with pytest.raises(BadInput, match=says):
            load_data(source.format(tmp_path))
