from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.data import load_data
from assay.models import load_model
from assay.models.weights_file import read_safetensors, save_tensors
from assay.training import FitProgress, FitSettings, Training, distill, distill_as_published, soft_labels
from assay.training.dataset_view import Examples, FromData, InMemory, Relabelled
from assay.training.distillation import SOFT_LABELS
from assay.training.losses import CrossEntropy

SETTINGS = FitSettings(epochs=2, batch=50, learning_rate=1e-3)


@pytest.fixture(scope="module")
def training() -> Training:
    return Training("mnist-cnn", load_data("mnist/test", limit=300), 100, SETTINGS)


@pytest.fixture(scope="module")
def whole(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished distillation at 20; tests only read it."""
    folder = tmp_path_factory.mktemp("whole")
    distill(training, 20, folder)
    return folder


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to go on with."""
    return shutil.copytree(whole, tmp_path / "finished")


STUDENT = Path("student", "mnist-cnn.safetensors")


def test_soft_labels_by_hand() -> None:
    """A network whose logits are (0, T ln 3) gives the labels (1/4, 3/4) at T."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 20 * torch.tensor(3.0).log()]))
    examples = InMemory(torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(soft_labels(model, examples, 20.0), torch.tensor([[0.25, 0.75]]).expand(3, 2))


def test_soft_labels_ignore_dropout() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    examples = InMemory(torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    assert torch.equal(soft_labels(model, examples, 1.0), soft_labels(model, examples, 1.0))


def test_relabelled_keeps_images_and_changes_targets() -> None:
    images, labels = torch.rand(4, 1, 2, 2), torch.arange(4)
    soft = torch.rand(4, 3)
    here = Relabelled(InMemory(images, labels), soft)
    x, y = here.batch(torch.tensor([3, 1]))
    assert torch.equal(x, images[[3, 1]])
    assert torch.equal(y, soft[[3, 1]])
    assert len(here) == 4
    others = [Relabelled(InMemory(images, labels), soft + 0.1), Relabelled(InMemory(images + 0.1, labels), soft)]
    assert len({here.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_the_student_learns_the_teacher_s_soft_labels(training: Training, tmp_path: Path) -> None:
    """It is the network that training on those labels gives, and another than training on the labels gives."""
    told: list[str] = []

    def watch(stage: str, now: FitProgress) -> None:
        told.append(stage)

    done = distill(training, 20, tmp_path, "assay train distill", watch)
    assert done.teacher is not None
    assert told == ["teacher"] * 8 + ["student"] * 8
    assert done.teacher.path == tmp_path / "teacher" / "mnist-cnn.safetensors"
    assert done.student.path == tmp_path / "student" / "mnist-cnn.safetensors"
    facts = read_safetensors(done.student.path)[1]
    assert (facts["temperature"], facts["command"]) == ("20", "assay train distill")
    assert json.loads(facts["settings"])["loss"] == {"temperature": 20}

    from assay.training.fit import fit
    from assay.training.recipes import new_network

    examples = FromData(training.data, 0, 200)
    settings = dataclasses.replace(SETTINGS, loss=CrossEntropy(20))
    expected = new_network("mnist-cnn", 0)
    soft = Relabelled(examples, soft_labels(done.teacher.module, examples, 20))
    fit(expected, soft, FromData(training.data, 200, 300), settings, tmp_path / "by-hand")
    for name, value in expected.state_dict().items():
        assert torch.equal(value, done.student.module.state_dict()[name]), name
    teacher, student = (load_model(f"file:{one.path}").digest for one in (done.teacher, done.student))
    assert teacher != student


def test_distilling_again_goes_on_where_it_stopped(training: Training, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        distill(training, 20, tmp_path / "cut", on_progress=stop_in_epoch_two_of("student"))
    again = distill(training, 20, tmp_path / "cut")
    assert load_model(f"file:{again.student.path}").digest == load_model(f"file:{whole / STUDENT}").digest
    with pytest.raises(BadInput, match="holds another training"):
        distill(training, 30, tmp_path / "cut")


class Stop(Exception):
    pass


def stop_in_epoch_two_of(stage: str) -> Callable[[str, FitProgress], None]:
    def interrupt(now_in: str, now: FitProgress) -> None:
        if (now_in, now.epoch) == (stage, 2):
            raise Stop

    return interrupt


def nudged_labels(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Make soft labels as another number of threads makes them: the last bit of some differs; keep what was made."""
    made: list[Tensor] = []

    def nudged(model: nn.Module, examples: Examples, temperature: float) -> Tensor:
        labels = soft_labels(model, examples, temperature)
        labels[::3] = labels[::3].nextafter(torch.tensor(2.0))
        made.append(labels)
        return labels

    monkeypatch.setattr(importlib.import_module("assay.training.distillation"), "soft_labels", nudged)
    return made


def test_soft_labels_are_those_of_before_the_interruption(
    training: Training, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stop):
        distill(training, 20, tmp_path / "cut", on_progress=stop_in_epoch_two_of("student"))
    made = nudged_labels(monkeypatch)
    again = distill(training, 20, tmp_path / "cut")
    assert made == []
    assert again.student.path.read_bytes() == (whole / STUDENT).read_bytes()
    # the labels it would have made are others: without the kept ones it is another training
    (tmp_path / "cut" / "teacher" / SOFT_LABELS).unlink()
    with pytest.raises(BadInput, match="holds another training"):
        distill(training, 20, tmp_path / "cut")
    assert len(made) == 1


@pytest.mark.parametrize("change", ["teacher", "data", "temperature", "damage"])
def test_soft_labels_that_do_not_belong_are_made_anew(
    training: Training, finished: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    kept = finished / "teacher" / SOFT_LABELS
    tensors, facts = read_safetensors(kept)
    if change == "damage":
        kept.write_bytes(kept.read_bytes()[:100])
    else:
        assert facts[change]
        save_tensors(tensors, kept, {**facts, change: "another"})
    made = nudged_labels(monkeypatch)
    with pytest.raises(BadInput, match="holds another training"):
        distill(training, 20, finished)
    assert len(made) == 1
    assert read_safetensors(kept)[1] == facts
    assert torch.equal(read_safetensors(kept)[0]["soft labels"], made[0])


def test_another_teacher_in_the_same_folder_gives_soft_labels_of_its_own(training: Training, finished: Path) -> None:
    kept = finished / "teacher" / SOFT_LABELS
    first = read_safetensors(kept)[0]["soft labels"]
    for stage in ("teacher", "student"):
        (finished / stage / "checkpoint.pt").unlink()
    other = dataclasses.replace(training, settings=dataclasses.replace(SETTINGS, seed=1))
    done = distill(other, 20, finished)
    assert done.teacher is not None
    second = read_safetensors(kept)[0]["soft labels"]
    assert not torch.equal(first, second)
    assert torch.equal(second, soft_labels(done.teacher.module, FromData(training.data, 0, 200), 20))


def test_the_published_variant_is_hard_labels_at_half_width(training: Training, tmp_path: Path) -> None:
    done = distill_as_published(training, 100, tmp_path)
    assert done.teacher is None
    assert sum(value.numel() for value in done.student.module.parameters()) == 300_426
    assert done.student.path == tmp_path / "student" / "mnist-cnn-half.safetensors"


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_nothing_can_be_divided_by(training: Training, tmp_path: Path, temperature: float) -> None:
    with pytest.raises(BadInput, match=r"temperature is .*; expected a positive number such as 100"):
        distill(training, temperature, tmp_path)


def test_the_published_variant_needs_a_half(training: Training, tmp_path: Path) -> None:
    other = dataclasses.replace(training, architecture="torchvision:resnet18")
    with pytest.raises(BadInput, match="'torchvision:resnet18' has none; expected mnist-cnn"):
        distill_as_published(other, 100, tmp_path)
