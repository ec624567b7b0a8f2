from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.data.class_orders import Renumbering
from assay.preflight.accuracy import chance
from assay.preflight.evidence import better_order, renumbered
from tests.support.workplace import Workplace

MODELS = """
import torch
from torch import nn


class Rows(nn.Module):
    # class k is right where row order[k] is the brightest
    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return 20 * x.mean((1, 3))[:, self.order]


def as_text(): return Rows(sorted(range(11), key=str)).eval()
def by_number(): return Rows(list(range(11))).eval()
def two(): return Rows([0, 1]).eval()
def swapped(): return Rows([1, 0]).eval()


class Coin(nn.Module):
    def forward(self, x):
        # a number that has nothing to do with the class
        return torch.stack([torch.sin(9e4 * x.mean((1, 2, 3))), x.mean((1, 2, 3))], 1)


class Always(nn.Module):
    def forward(self, x):
        return torch.stack([x.mean((1, 2, 3)), 3 + x.mean((1, 2, 3))], 1)


class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def coin(): return Coin()
def always(): return Always()
def grey(): return Grey()
"""


def rows(root: Path, names: list[str], each: int | list[int] = 4) -> None:
    """Draw pictures whose row k is the brightest, in the k-th of the folders `names`."""
    draw = np.random.default_rng(1)
    for at, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each if isinstance(each, int) else each[at]):
            values = draw.integers(0, 60, (len(names), len(names), 3))
            values[at] += 150
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"{i}.png")


@pytest.fixture
def desk(place: Workplace) -> Workplace:
    (place.folder / "rows.py").write_text(MODELS)
    return place


def told(desk: Workplace, model: str, data: str) -> dict[str, list[tuple[str, str]]]:
    said = desk.assay(f"doctor --model rows.py:{model} --data {data} --json")
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(said.out):
        found.setdefault(one["check"], []).append((one["level"], one["text"]))
    return found


def test_the_doctor_names_the_order_that_the_answers_have(desk: Workplace) -> None:
    rows(desk.folder / "d", [str(i) for i in range(11)])
    ((level, text),) = told(desk, "as_text", "folder:d")["clean accuracy"]
    assert level == "warning"
    assert "agrees with 100.0 % of labels numbered as torchvision's ImageFolder" in text
    assert text.endswith("say folder:d?order=imagefolder")
    found = told(desk, "as_text", "folder:d?order=imagefolder")
    assert found["clean accuracy"] == [("good", "100.0 % on 44 images")]
    assert "labels" not in found
    assert told(desk, "by_number", "folder:d")["clean accuracy"] == [("good", "100.0 % on 44 images")]


def test_the_look_before_a_run_says_it_too(desk: Workplace) -> None:
    rows(desk.folder / "d", ["no", "yes"], 8)
    said = desk.assay(
        "run --model rows.py:swapped --data folder:d --attack fgsm --eps 1/255 --audit off --display none"
    )
    assert "Warning" in said.err and "folder:d?order=reversed" in said.err
    line = (
        "run --model rows.py:swapped --data folder:d?order=reversed --attack fgsm --eps 1/255 --audit off --out right"
    )
    again = desk.assay(f"{line} --display none")
    assert "order=reversed" not in "".join(line for line in again.err.splitlines() if "Warning" in line)
    assert "clean 100" in again.out + again.err


def test_labels_from_one_are_explained(desk: Workplace) -> None:
    rows(desk.folder / "d", ["1", "2"], 8)
    ((level, text),) = told(desk, "two", "folder:d")["model and images"]
    assert level == "error"
    assert "has label 2, but the model has 2 classes, 0 to 1" in text
    assert "folder:d?order=from-one" in text


def test_chance_on_two_classes_is_not_good(desk: Workplace) -> None:
    rows(desk.folder / "d", ["a", "b"], 90)
    for model in ("coin", "always"):
        ((level, text),) = told(desk, model, "folder:d")["clean accuracy"]
        assert level == "warning"
        assert "no better than guessing among 2 classes" in text
    # labels are not all that can be wrong
    assert "or the model has not learned to tell such images" in text


def test_the_larger_class_alone_is_not_good(desk: Workplace) -> None:
    rows(desk.folder / "d", ["a", "b"], [6, 54])
    ((level, text),) = told(desk, "always", "folder:d")["clean accuracy"]
    assert level == "warning"
    assert "Clean accuracy is 90.0 % on 60 images, no better than always answering class 1" in text
    assert told(desk, "two", "folder:d")["clean accuracy"][0][0] == "good"


def test_channels_that_the_model_wants_are_named(desk: Workplace) -> None:
    rows(desk.folder / "d", ["a", "b"], 8)
    ((_, text),) = told(desk, "grey", "folder:d")["model and images"]
    assert "takes 1 channel and the images have 3" in text
    assert "rows.py:grey?channels=1" in text
    assert "model and images" not in told(desk, "grey?channels=1", "folder:d")


def test_notes_about_pictures_and_weights_are_shown(desk: Workplace) -> None:
    rows(desk.folder / "d", ["a", "b"], 8)
    Image.fromarray(np.full((2, 2), 900, dtype=np.uint16)).save(desk.folder / "d/a/0.png")
    (desk.folder / "d/a/notes.txt").write_text("")
    found = told(desk, "two", "folder:d")
    assert any(level == "warning" and "white=1023" in text for level, text in found["images"])
    assert any("1 .txt" in text for _, text in found["labels"])
    assert not any("white=" in text for _, text in found["labels"])


def test_chance_levels() -> None:
    y = torch.tensor([0] * 9 + [1])
    assert chance(torch.zeros(10, dtype=torch.long), y, 2)[0] == pytest.approx(0.9)
    assert chance(y, y, 2)[0] == pytest.approx(0.82)
    assert chance(y, y, 1000)[0] == pytest.approx(0.82)
    # of one label alone, answering it is no accident
    assert chance(torch.zeros(10, dtype=torch.long), torch.zeros(10, dtype=torch.long), 4)[0] == 0.25
    assert chance(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), 3)[0] == pytest.approx(1 / 3)


def test_an_order_must_explain_clearly_more() -> None:
    turn = Renumbering("say it", "turned", ((0, 1), (1, 2), (2, 0)))
    y = torch.arange(30) % 3
    logits = torch.nn.functional.one_hot(renumbered(y, turn), 3).float()
    assert better_order(logits, y, [turn]).endswith("say it")
    assert better_order(logits[:3], y[:3], [turn]) == ""  # too few to tell
    assert better_order(torch.nn.functional.one_hot(y, 3).float(), y, [turn]) == ""
    beyond = Renumbering("say that", "far", ((0, 1), (1, 2), (2, 3)))
    assert better_order(logits, y, [beyond]) == ""  # the model has no class 3
