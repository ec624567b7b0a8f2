"""What a file is that holds no weights Assay reads, told by its first bytes, and what to do with it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_HEAD = 4096
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library
# a file of torch.save before 1.6 begins with this number, pickled
LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_GRADIENTS = "Attacks need gradients"
_AGAIN = "Download it again, and look into it with a text editor for what the server said."
_UNPACK = "Unpack it, and name the file of weights inside."
_EXPORT = "Give the weights alone, saved by torch.save(model.state_dict(), ...) or as safetensors."

ONNX = "an ONNX model, a graph without a network of torch. Name it as one, onnx:FILE (extra onnx)."
_KERAS = "a Keras model or weights file (HDF5). Name a model that was saved whole keras:FILE."
_TENSORFLOW = f"a TensorFlow graph. {_GRADIENTS} of torch: build the same network in torch and copy its weights."
_TFLITE = "a TensorFlow Lite model. Name it litert:FILE."
TORCHSCRIPT = (
    "a TorchScript program (torch.jit.save). Name it so: torchscript:FILE with --allow-pickle, since reading one could "
    "run code."
)
EXPORTED = "a program of torch.export. Name it so: pt2:FILE with --allow-pickle, since reading one could run code."
_ARRAYS = (
    "a file of NumPy arrays. Turn them into a state dict in the order of the network's names, and save it with "
    "torch.save or as safetensors."
)
_PICKLE = f"a pickled Python object that torch.save did not write. {_EXPORT}"

# first bytes -> what the file is and what to do, in the order in which they are tried
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, the address of the weights in place of them. Run: git lfs pull."),
    (b"\x89HDF\r\n\x1a\n", _KERAS),
    (b"GGUF", "a GGUF file of quantised language-model weights, no image classifier. Name another file."),
    (b"\x93NUMPY", _ARRAYS),
    (b"\x1f\x8b", f"compressed by gzip. {_UNPACK}"),
    (b"BZh", f"compressed by bzip2. {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"compressed by xz. {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed by zstd. {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive. {_UNPACK}"),
    (b"Rar!", f"a RAR archive. {_UNPACK}"),
    (b"\x7fELF", f"a compiled library or program. {_EXPORT}"),
    (b"\x89PNG", "a picture. Name the file of weights."),
    (b"\xff\xd8\xff", "a picture. Name the file of weights."),
    (b"%PDF", "a PDF document. Name the file of weights."),
)


def what_else(path: Path) -> str:
    """Return what `path` is and what to do with it; "" for a file of torch.save, and for bytes that say nothing."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "empty (0 bytes). Copy or download it again."
    known = next((said for begins, said in _BEGINNINGS if head.startswith(begins)), "")
    if known:
        return known
    if head[4:8] == b"TFL3":
        return _TFLITE
    if head[257:262] == b"ustar":
        return f"a tar archive. {_UNPACK}"
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(path)
    return _text(head) or _pickled(head) or _protobuf(head, path.suffix.lower())


def is_torch(path: Path) -> bool:
    """Say whether the file begins as torch.save writes it: a zip archive, or its own number in a pickle."""
    with path.open("rb") as file:
        head = file.read(32)
    return head.startswith(b"PK\x03\x04") or LEGACY_TORCH in head


def is_safetensors(path: Path) -> bool:
    """Say whether the file begins as safetensors do, whatever it is called: a length, and that much JSON."""
    with path.open("rb") as file:
        head = file.read(16)
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _in_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return ""  # a damaged file of torch.save, most often; torch says where
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends or any("/code/" in f"/{name}" for name in names):
        return TORCHSCRIPT
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return EXPORTED
    if "data.pkl" in ends:
        return ""
    if "model.weights.h5" in ends:
        return _KERAS.replace("(HDF5)", "(.keras)")
    if names and all(name.endswith(".npy") for name in names):
        return _ARRAYS
    return f"a zip archive of {', '.join(names[:3]) or 'nothing'}. {_UNPACK}"


def _text(head: bytes) -> str:
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begins.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return f"an HTML page: a download that needed a login or a confirmation, or a wrong address. {_AGAIN}"
    if begins.startswith((b"<?xml", b"<error", b"<net ")):
        return f"XML, not weights: a server's error message, or a network's description without them. {_AGAIN}"
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return ""
    if not text.isprintable() and any(not (c.isprintable() or c.isspace()) for c in text):
        return ""
    shown = text.strip().partition("\n")[0][:60]
    what = "JSON" if _is_json(text) else "text"
    return f"{what}, beginning with {shown!r}, not weights. {_AGAIN}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return text.lstrip().startswith(("{", "["))
    return True


def _pickled(head: bytes) -> str:
    """Tell a foreign pickle from a file of torch.save by the number that the latter begins with."""
    if head[0] != 0x80 or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return ""
    return "" if LEGACY_TORCH in head[:32] else _PICKLE


def _protobuf(head: bytes, suffix: str) -> str:
    """Tell the graphs that are stored as protocol buffers: ONNX begins with its version, a small number."""
    if suffix in (".pb", ".pbtxt", ".meta") or (head[0] == 0x0A and suffix not in (".pt", ".pth", ".onnx", ".bin")):
        return _TENSORFLOW
    begins_with_version = head[0] == 0x08 and head[1:2] < b"\x40"
    # field numbers 2 to 8 of an ONNX model, each with its wire type
    if suffix == ".onnx" or (begins_with_version and head[2:3] in b"\x12\x1a\x22\x28\x32\x3a\x42"):
        return ONNX
    return ""
