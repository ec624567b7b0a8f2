from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.evaluation.records.gallery import Picture, decode, encode
from assay.evaluation.records.pictured import FEW
from assay.evaluation.run_study import run_study
from tests.support.tiny import study, write_pictures


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


@pytest.mark.parametrize("question", ["as_attacked", "worst_case"])
def test_of_a_few_images_at_one_budget_all_are_kept(tmp_path: Path, tiny_model: str, question: str) -> None:
    source = write_pictures(tmp_path / "few", 6)
    settings = {"threats": {"norm": "linf", "eps": ["16/255"]}, "attacks": ["fgsm"], "question": question}
    run = run_study(study(tiny_model, source, **settings, chunk=3), tmp_path / "run")
    (cell,) = run.cells
    pictures = run.gallery(cell)
    rows = run.records().to_pylist()
    # the worst case leaves alone what is wrong already
    attacked = {row["sample_id"]: row for row in rows if question == "as_attacked" or row["status"] != "clean_wrong"}
    assert len(attacked) == (6 if question == "as_attacked" else 5)
    assert sorted(picture.sample_id for picture in pictures) == sorted(attacked)
    for picture in pictures:
        row = attacked[picture.sample_id]
        assert int(picture.logits.argmax()) == row["prediction"]
        assert (picture.status, picture.label) == (row["status"], row["label"])
    assert {picture.role for picture in pictures} > {"other"}


def test_of_many_images_or_budgets_a_choice_is_kept(tmp_path: Path, tiny_model: str) -> None:
    for n, eps in ((FEW + 1, ["16/255"]), (6, ["16/255", "32/255"])):
        source = write_pictures(tmp_path / f"pictures-{n}", n)
        settings = {"threats": {"norm": "linf", "eps": eps}, "attacks": ["fgsm"], "question": "as_attacked"}
        run = run_study(study(tiny_model, source, **settings), tmp_path / f"run-{n}")
        (cell,) = run.cells
        assert "other" not in {picture.role for picture in run.gallery(cell)}
