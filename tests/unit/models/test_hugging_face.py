"""`hf:` without its libraries: folders are looked into first, and what is missing is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.models import load_model
from assay.models.loaders.hf_folder import weights_in


def refused(name: str | Path, **given: bool) -> str:
    with pytest.raises(BadInput) as told:
        load_model(f"hf:{name}", **given)  # type: ignore[arg-type]  # by name
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_folder_is_looked_into_before_anything_is_imported(tmp_path: Path) -> None:
    before = set(sys.modules)
    (tmp_path / "model").mkdir()
    assert "Did you mean 'model'?" in refused(tmp_path / "modell")
    assert "has no config.json, but nothing" in refused(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("[]")
    assert "holds list, expected the settings of a model" in refused(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "has no model.safetensors" in refused(tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    assert "a pickled file, which could run code" in refused(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_text("<html>")
    assert "an HTML page" in refused(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    assert "no readable list of the parts" in refused(tmp_path / "model")
    assert "no readable list of the parts" in refused(tmp_path / "model")
    assert not {"transformers", "huggingface_hub"} & (set(sys.modules) - before)


def test_parts_are_named_once(tmp_path: Path) -> None:
    content = (2).to_bytes(8, "little") + b"{}"
    for part in ("a.safetensors", "b.safetensors"):
        (tmp_path / part).write_bytes(content)
    weights = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(weights))
    safe, files = weights_in(tmp_path, "hf:x", allow_pickle=False)
    assert safe and [one.name for one in files] == ["a.safetensors", "b.safetensors"]


def test_a_missing_library_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in (tmp_path, "owner/name"):
        assert "transformers is not installed. Install it with: pip install 'assay[hf]'" in refused(name)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"problem_type": "multi_label_classification"}, "assay.MultiLabel"),
        ({"problem_type": "regression"}, "a model for regression"),
        ({"num_labels": 1}, "one output"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised (gptq)"),
    ],
)
def test_other_kinds_are_refused(config: dict[str, object], told: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", **config}))
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert told in refused(tmp_path)


def test_options_that_it_takes() -> None:
    assert "Unknown option 'threshold'" in refused("m?threshold=1")
    assert "Unknown option 'arch'" in refused("m?arch=x")
