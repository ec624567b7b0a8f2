from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models import load_model
from assay.models.foreign import is_safetensors, what_else
from assay.models.weights_file import save_weights


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


CONTENT = {
    "empty.pt": (b"", "empty (0 bytes)"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
    "page.pt": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page"),
    "error.bin": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "error.pt": (b'{"error": "not found"}', "JSON, beginning with"),
    "note.pt": (b"Please ask for access.\n", "text, beginning with 'Please ask for access.'"),
    "old.onnx": (b"\x08\x03\x12\x07pytorch\x1a\x031.1" + bytes(90), "an ONNX model"),
    "renamed.pt": (b"\x08\x0a\x12\x07pytorch\x1a\x052.3.0:" + b"\xff\x01\n" + bytes(90), "an ONNX model"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "Keras"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(90), "TensorFlow Lite"),
    "saved_model.pb": (b"\x08\x01\x12\xf0\x10" + bytes(90), "a TensorFlow graph"),
    "llama.bin": (b"GGUF\x03\0\0\0" + bytes(90), "GGUF"),
    "array.npy": (b"\x93NUMPY\x01\0" + bytes(90), "NumPy arrays"),
    "weights.pt.gz": (gzip.compress(b"x" * 99), "compressed by gzip"),
    "plain.pkl": (pickle.dumps({"weight": [1.0]}), "pickled Python object that torch.save did not write"),
    "photo.pt": (b"\x89PNG\r\n\x1a\n" + bytes(90), "a picture"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENT)
def test_foreign_files_are_known_by_their_first_bytes(tmp_path: Path, name: str) -> None:
    content, says = CONTENT[name]
    (tmp_path / name).write_bytes(content)
    for allowed in (False, True):
        with pytest.raises(BadInput) as told:
            load_model(f"file:{tmp_path / name}?arch=mnist-cnn", allow_pickle=allowed)
        assert says in str(told.value)
        assert "allow-pickle" not in str(told.value)
        assert "run code" not in str(told.value)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a.npy", "b.npy"), "NumPy arrays"),
        (("metadata.json", "config.json", "model.weights.h5"), "Keras"),
        (("m/archive_format", "m/models/model.json", "m/data/weights/weight_0"), "torch.export"),
        (("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "TorchScript"),
        (("readme.md", "weights.pth"), "a zip archive of readme.md, weights.pth. Unpack it"),
    ],
)
def test_zip_archives_are_known_by_what_is_inside(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    assert says in what_else(zipped(tmp_path / "m.pt", *names))


def test_numpys_own_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    assert "NumPy arrays" in what_else(tmp_path / "w.npz")


@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch_save_are_not_foreign(tmp_path: Path, new: bool) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.onnx.pt", _use_new_zipfile_serialization=new)
    assert what_else(tmp_path / "w.onnx.pt") == ""


def test_a_module_saved_whole_still_names_allow_pickle(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="--allow-pickle"):
        load_model(f"file:{tmp_path}/w.pt?arch=mnist-cnn")


def test_safetensors_are_known_whatever_they_are_called(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    (tmp_path / "a.py").write_text(
        "from torch import nn\ndef f(): return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
    )
    save_weights(network, tmp_path / "w.bin", {"note": "x"})
    assert is_safetensors(tmp_path / "w.bin")
    model = load_model(f"file:{tmp_path}/w.bin?arch={tmp_path}/a.py:f")
    assert torch.equal(model.module[1].weight, network[1].weight)  # type: ignore[index]


def test_a_pointer_called_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BadInput, match="git lfs pull"):
        load_model(f"file:{tmp_path}/w.safetensors?arch=mnist-cnn")
