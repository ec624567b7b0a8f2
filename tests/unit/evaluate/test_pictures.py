from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.evaluate.pictures import Picture, decode, encode


def picture(at: int) -> Picture:
    generator = torch.Generator().manual_seed(at)
    original = torch.rand(3, 4, 5, generator=generator)
    tensors = (original, original.half(), original[0, 0], original[1, 0])
    return Picture(f"</script>/{at}", at, 0.1, "0.1", "broken", 0.25, "most", *tensors)


def test_pictures_read_back(tmp_path: Path) -> None:
    path = tmp_path / "pictures.safetensors"
    path.write_bytes(encode([picture(0), picture(1)]))
    for found, expected in zip(decode(path), [picture(0), picture(1)], strict=True):
        for name in ("sample_id", "label", "eps", "eps_written", "status", "size", "role"):
            assert getattr(found, name) == getattr(expected, name)
        for name in ("original", "perturbation", "clean_logits", "logits"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_damaged_pictures_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pictures.safetensors"
    path.write_bytes(content)
    assert decode(path) == []
