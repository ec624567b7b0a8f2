"""What a cell means is resolved once per worker: files are read once, models are loaded when they are asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.attacks import PGD
from assay.core.compose import Restarts, Transferred
from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Untargeted
from assay.core.threat import NORMS
from assay.data import Sample
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.executors.base import Done, perform
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from assay.patches import Patch
from assay.patches import patch as patch_files
from tests.support.tiny import study, write_model


def planned(model: str, source: str, loader: Loader, **more: Any) -> Cell:
    (cell,) = make_plan(study(model, source, **{"attacks": "fgsm", **more}), loader).cells
    return cell


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    Patch(torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(2)), torch.ones(3, 3)).save(
        tmp_path / "p.safetensors"
    )
    return tmp_path / "p.safetensors"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    read = patch_files.read_safetensors

    def counted(path: Path) -> Any:
        found.append(path)
        return read(path)

    monkeypatch.setattr(patch_files, "read_safetensors", counted)
    return found


def test_its_parts_are_those_of_the_cell(tiny_model: str, tiny_source: str) -> None:
    loader = Loader()
    attack = {"attack": "pgd", "steps": 3, "restarts": 2}
    cell = planned(tiny_model, tiny_source, loader, attacks=attack, goal="out-of-top 2")
    here = Experiment.of(cell, loader)
    assert here.method() == Restarts(PGD(3), 2)
    assert (here.threat.norm, here.threat.eps, here.threat.box) == (NORMS["linf"], 64 / 255, (0.0, 1.0))
    samples = [one for one in here.data.load([3, 5]) if isinstance(one, Sample)]
    problem, draws = here.problem(samples, [3, 5], here.bench.oracle, seed=7)
    assert torch.equal(problem.x, torch.stack([one.image for one in samples]))
    assert isinstance(problem.goal, Untargeted) and problem.goal.y.tolist() == [one.label for one in samples]
    goal, cost = here.goal(problem, draws, torch.zeros(2, dtype=torch.int64))
    assert isinstance(goal, OutOfTop) and goal.k == 2 and cost is None
    least, cost = Experiment(dataclasses.replace(cell, goal="targeted least-likely"), loader).goal(
        problem, draws, goal.y
    )
    assert cost is not None and cost.forwards.tolist() == [1, 1]
    assert least.t.tolist() == here.bench.classifier.module(problem.x).argmin(1).tolist()
    loader.close()


def test_one_experiment_per_cell_and_loader(tiny_model: str, tiny_source: str, patch: Path) -> None:
    loader = Loader()
    cell = planned(tiny_model, tiny_source, loader)
    assert Experiment.of(cell, loader) is Experiment.of(Cell.of(cell.plain()), loader)
    assert Experiment.of(cell, Loader()) is not Experiment.of(cell, loader)
    # the folder of a patch is no part of its cell's name, and is where it is read from
    attack = {"attack": "patch", "file": str(patch)}
    one = planned(tiny_model, tiny_source, loader, attacks=attack, threats={"norm": "l0", "eps": 27})
    (patch.parent / "elsewhere").mkdir()
    moved = patch.rename(patch.parent / "elsewhere" / patch.name)
    other = planned(
        tiny_model, tiny_source, loader, attacks={**attack, "file": str(moved)}, threats={"norm": "l0", "eps": 27}
    )
    assert one.digest == other.digest
    with pytest.raises(BadInput, match="There is no patch"):
        Experiment.of(one, loader).method()
    assert Experiment.of(other, loader).method() is Experiment.of(other, loader).method()
    loader.close()


def test_a_worker_reads_a_patch_once(tiny_model: str, tiny_source: str, patch: Path, reads: list[Path]) -> None:
    loader = Loader()
    attack = {"attack": "patch", "file": str(patch)}
    cell = planned(tiny_model, tiny_source, loader, attacks=attack, threats={"norm": "l0", "eps": 27})
    reads.clear()
    assert all(isinstance(perform(Unit(cell, chunk), loader), Done) for chunk in range(cell.chunks))
    loader.close()
    assert cell.chunks == 4 and len(reads) == 1
    # another worker reads it again, and sees what has become of it
    other = Patch.load(patch)
    other.with_pixels(1 - other.pixels).save(patch)
    with pytest.raises(BadInput, match="Leave patches alone in a run"):
        perform(Unit(cell, 0), Loader())


def test_an_estimate_loads_no_model(
    tiny_model: str, tiny_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = {"attack": "pgd", "steps": 3, "surrogate": write_model(tmp_path / "twin")}
    cell = planned(tiny_model, tiny_source, Loader(), attacks=attack, threats={"norm": "linf", "eps": "4/255"})

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr("assay.evaluation.loader.load_model", never)
    assert isinstance(Experiment.of(cell, Loader()).method(), Transferred)
    # the image; four looks on the surrogate, and the verdict
    assert (passes_per_sample(cell).forwards, passes_per_sample(cell).backwards) == (1 + 4 + 1, 3)


def test_another_model_than_the_plans_is_refused(tiny_model: str, tiny_source: str) -> None:
    loader = Loader()
    cell = dataclasses.replace(planned(tiny_model, tiny_source, loader), weights="0" * 32)
    with pytest.raises(BadInput, match="A model must be the same each time"):
        Experiment.of(cell, loader).load()
    loader.close()
