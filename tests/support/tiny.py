"""A model of a few hundred weights and pictures of 8 x 8 pixels, under names that any process can load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import assay
from assay.data import Data
from assay.evaluation.run_study import Options, Run, run_study
from assay.evaluation.study.spec import Study

CLASSES, SIZE = 4, 8

MODEL = """
import os, pathlib, time
import torch

PATTERNS = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Matcher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("patterns", (PATTERNS - PATTERNS.mean(0)).flatten(1))

    def forward(self, x):
        hook(x)
        return (x.flatten(1) @ self.patterns.T) * 2


def hook(x):
    HOOK


def factory():
    from assay.models import Classifier  # it describes itself: nothing is looked for in torchvision, which is slow
    return Classifier(Matcher(), input_shape=(3, 8, 8))
"""


def patterns() -> Tensor:
    """Return the images that the classes are made of, `[4, 3, 8, 8]`."""
    return torch.rand(CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def images(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return `n` 8-bit images `[n, 3, 8, 8]` with their labels: a class's pattern under heavy noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    mixed = 0.3 * patterns()[labels] + 0.7 * torch.rand(n, 3, SIZE, SIZE, generator=generator)
    return (mixed * 255).round() / 255, labels


def write_model(folder: Path, hook: str = "pass") -> str:
    """Write a model file and return its spec; `hook` runs in every forward pass, and sees the images `x`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model.py"
    path.write_text(MODEL.replace("HOOK", hook))
    return f"{path}:factory"


def write_pictures(folder: Path, n: int) -> str:
    """Write `n` pictures in folders by class number, and return their source."""
    pixels, labels = images(n)
    for i, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        array = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(place / f"{i:04d}.png")
    return f"folder:{folder}"


def data(n: int, read: Callable[[int], Tensor] | None = None) -> Data:
    """Return `n` samples that exist in this process alone."""
    pixels, labels = images(n)
    ids = tuple(f"tiny/{i:04d}" for i in range(n))
    return Data("tiny", f"tiny-{n}", ids, tuple(labels.tolist()), None, (3, SIZE, SIZE), read or pixels.__getitem__)


def study(model: str, source: Any, **more: Any) -> Study:
    """Return a small study; every key can be given."""
    usual: dict[str, Any] = {
        "study": "tiny",
        "models": model,
        "data": source,
        "threats": {"norm": "linf", "eps": ["0", "4/255", "16/255", "64/255"]},
        "attacks": ["fgsm", {"attack": "pgd", "steps": 4}],
        "chunk": 8,
    }
    return Study.of({**usual, **more})


def rows(run: Run, without: tuple[str, ...] = ("seconds",)) -> list[dict[str, Any]]:
    """Return a run's records in an order of their own, without the columns that differ from run to run."""
    table = run.records()
    table = table.drop_columns(list(without)).sort_by([(n, "ascending") for n in ("cell", "eps", "sample_id")])
    return list(table.to_pylist())


def check_equal(run: Run, expected: Run) -> None:
    """Check that a run ended well with the records of another one: none lost, none twice, nothing half-written."""
    found = rows(run)
    assert run.status == "success"
    assert len({(row["cell"], row["eps"], row["sample_id"]) for row in found}) == len(found), "a record twice"
    assert found == rows(expected)
    assert not list(run.path.rglob(".writing-*")), "something half-written stays"


def shards(folder: Path) -> int:
    """Return how many files of records a run directory has."""
    return len(list(folder.glob("results/*/part-*.parquet")))


def run_here(folder: Path, given: Study, **options: Any) -> Run:
    """Run a study and return it."""
    return run_study(given, folder, Options(**options))


def evaluate(*given: Any, **settings: Any) -> Run:
    """Return the run of `assay.evaluate`, neither looked at before nor audited afterwards."""
    return assay.evaluate(*given, **{"audit": "off", "doctor": False, **settings}).run
