"""Keras and TFLite files where their libraries are not installed, and what is checked before these are needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import assay
from assay.core.errors import BadInput
from assay.models.loaders import keras_file
from tests.support.small_net import FOLDER


def test_a_missing_library_is_answered_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("keras", "ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=r"Keras 3 is not installed .*pip install 'assay\[keras\]'"):
        assay.load_model(f"keras:{FOLDER / 'small.keras'}")
    with pytest.raises(BadInput, match=r"ai-edge-litert is not installed .*pip install 'assay\[litert\]'"):
        assay.load_model(f"litert:{FOLDER / 'float.tflite'}")


def test_the_environment_is_as_it_was_when_an_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(BadInput, match="Keras 3 is not installed"):
        keras_file.imported()
    assert os.environ["KERAS_BACKEND"] == "jax"


@pytest.mark.parametrize("scheme", ["keras", "litert"])
def test_what_a_file_is_comes_before_what_reads_it(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "net.file").write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match=f"is no {'Keras' if scheme == 'keras' else 'TFLite'} file"):
        assay.load_model(f"{scheme}:{tmp_path / 'net.file'}")
    with pytest.raises(BadInput, match=r"There is no file .* Did you mean 'net\.file'"):
        assay.load_model(f"{scheme}:{tmp_path / 'net.fil'}")


def test_file_names_the_kinds_that_read_such_files() -> None:
    for name, kind in (("small.keras", "keras:FILE"), ("float.tflite", "litert:FILE")):
        with pytest.raises(BadInput, match=kind):
            assay.load_model(f"file:{FOLDER / name}?arch=mnist-cnn")
