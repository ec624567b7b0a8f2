from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import load_data
from assay.defenses import FitProgress, FitSettings, Training, distill, distill_as_published, soft_labels
from assay.defenses.examples import FromData, InMemory, Relabelled
from assay.defenses.losses import CrossEntropy
from assay.models import load_model
from assay.models.weights_file import read_safetensors

SETTINGS = FitSettings(epochs=2, batch=50, learning_rate=1e-3)


@pytest.fixture
def training() -> Training:
    return Training("mnist-cnn", load_data("mnist/test", limit=300), 100, SETTINGS)


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

    from assay.defenses.fit import fit
    from assay.defenses.standard import new_network

    examples = FromData(training.data, 0, 200)
    settings = dataclasses.replace(SETTINGS, loss=CrossEntropy(20))
    expected = new_network("mnist-cnn", 0)
    soft = Relabelled(examples, soft_labels(done.teacher.module, examples, 20))
    fit(expected, soft, FromData(training.data, 200, 300), settings, tmp_path / "by-hand")
    for name, value in expected.state_dict().items():
        assert torch.equal(value, done.student.module.state_dict()[name]), name
    teacher, student = (load_model(f"file:{one.path}").digest for one in (done.teacher, done.student))
    assert teacher != student


def test_distilling_again_goes_on_where_it_stopped(training: Training, tmp_path: Path) -> None:
    whole = distill(training, 20, tmp_path / "whole")

    class Stop(Exception):
        pass

    def interrupt(stage: str, now: FitProgress) -> None:
        if stage == "student" and now.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        distill(training, 20, tmp_path / "cut", on_progress=interrupt)
    again = distill(training, 20, tmp_path / "cut")
    assert load_model(f"file:{again.student.path}").digest == load_model(f"file:{whole.student.path}").digest
    with pytest.raises(BadInput, match="holds another training"):
        distill(training, 30, tmp_path / "cut")


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
