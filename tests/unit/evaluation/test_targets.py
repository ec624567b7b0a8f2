"""A target for each image: from files, from the data, from Python, and what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core.errors import BadInput
from assay.core.goal import OutOfTop, Targeted, Toward, Untargeted
from assay.core.threat import Linf
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.study.goal_words import check_goal, fixed_class, per_image, spoken, telling
from assay.evaluation.study.targets import aimed, given
from tests.support.tiny import data, evaluate, rows, run_here, study
from tests.unit.evaluation.test_work import Small

N = 12
TARGETS = [(at % 4 + at % 3) % 4 for at in range(N)]
NAMES = ("dog", "cat", "cow", "hen")


def written(folder: Path, text: str) -> str:
    (folder / "t.csv").write_text(text)
    return f"targeted file {folder / 't.csv'}"


def targets_of(goal: str, n: int = N, classes: tuple[str, ...] | None = NAMES) -> list[int]:
    return list(aimed(goal, data(n), classes)[1].targets or ())


LINES = "\n".join(str(target) for target in TARGETS)
BY_ID = "\n".join(f"tiny/{at:04d},{target}" for at, target in reversed(list(enumerate(TARGETS))))
BY_NAME = "\n".join(f"{at:04d},{NAMES[target]}" for at, target in enumerate(TARGETS))
TABLE = "ImageId,URL,TargetClass\n" + "\n".join(f"{at:04d},http://x,{target}" for at, target in enumerate(TARGETS))


@pytest.mark.parametrize("text", [LINES, f"target\n{LINES}", BY_ID, f"id,target\n{BY_ID}\n\n", BY_NAME, TABLE])
def test_every_form_of_a_file_says_the_same(tmp_path: Path, text: str) -> None:
    goal = written(tmp_path, text)
    assert targets_of(goal) == TARGETS
    # where they come from changes nothing
    told = telling(aimed(goal, data(N), NAMES)[0])
    column = aimed("targeted column", dataclasses.replace(data(N), targets=tuple(TARGETS)), NAMES)[0]
    assert telling(column) == told and told.startswith("targeted each ")


def test_a_file_of_more_images_serves_some_of_them(tmp_path: Path) -> None:
    assert targets_of(written(tmp_path, BY_ID), 5) == TARGETS[:5]


def test_a_changed_target_is_another_goal(tmp_path: Path) -> None:
    first = aimed(written(tmp_path, LINES), data(N), None)[0]
    assert per_image(first) and spoken(first) == f"targeted file {tmp_path / 't.csv'}"
    changed = written(tmp_path, "\n".join(["3", *LINES.splitlines()[1:]]))
    assert aimed(changed, data(N), None)[0] != first
    with pytest.raises(BadInput, match="are not those of the plan"):
        aimed(first, data(N), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("1\n2\n", "has 2 targets, tiny has 12 images"),
        ("a,b,1\n", "has 3 columns and none is called target"),
        ("tiny/0000,1\n", "has no target for 'tiny/0001' and 10 more"),
        ("tiny/0000,1\ntiny/0000,2\n", "gives 'tiny/0000' the targets 1 and 2"),
        (LINES.replace("1", "-1"), "'-1' is no target"),
        (LINES.replace("1", "kat"), "'kat' is no target"),
        ("id,target\ntiny/0000\n", "has 1 columns, expected 2"),
        ("\n".join(str(at % 4) for at in range(N)), "aims at the label of every image"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        targets_of(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv cannot be read"):
        targets_of(f"targeted file {tmp_path / 'none.csv'}")
    with pytest.raises(BadInput, match="has no target for each image"):
        targets_of("targeted column")


def test_words_keep_a_path_as_it_is() -> None:
    assert check_goal(" targeted  file  my  own#.csv ") == "targeted file my  own#.csv"
    assert spoken("targeted file a#b.csv") == "targeted file a#b.csv"
    assert fixed_class("targeted 3") == "3" and fixed_class("targeted next") is None
    # a class may be called like that
    assert aimed("targeted column", data(N), ("column", "a", "b", "c"))[0] == "targeted column"


def test_one_class_for_all_images_of_that_class_is_refused() -> None:
    alike = dataclasses.replace(data(4), labels=(2,) * 4)
    for goal, classes in (("targeted 2", None), ("targeted cow", NAMES)):
        with pytest.raises(BadInput, match="there is nothing to attack"):
            aimed(goal, alike, classes)
    assert aimed("targeted 1", alike, None)[0] == "targeted 1"
    # an unknown class is told when the model is asked
    assert aimed("targeted kat", alike, NAMES)[0] == "targeted kat"


def test_goals_from_python() -> None:
    labels = torch.tensor(data(N).labels)
    goals: list[Any] = [TARGETS, torch.tensor(TARGETS), Targeted(labels, torch.tensor(TARGETS))]
    for goal in goals:
        words, aiming = given(goal, data(N))
        assert words == "targeted column" and list(aiming.targets or ()) == TARGETS
    assert given(Untargeted(labels), data(N))[0] == "untargeted"
    assert given(OutOfTop(labels, 2), data(N))[0] == "out-of-top 2"


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (TARGETS[:-1], "expected 12 class numbers"),
        ([-1] * N, "expected 12 class numbers"),
        ([0.5] * N, "expected 12 class numbers"),
        (torch.zeros(N, 2), "expected 12 class numbers"),
        (Targeted(torch.zeros(N).long(), torch.ones(N).long()), "labels that are not those of tiny"),
        (Toward(torch.zeros(N).long(), torch.ones(N).long()), "Other goals go to assay.attack"),
        (Untargeted(torch.arange(N) % 4, reject=1), "Other goals go to assay.attack"),
        ({"a": 1}, "goal is a dict"),
    ],
)
def test_goals_from_python_that_do_not_fit(goal: Any, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        given(goal, data(N))
    assert said in str(caught.value)


def test_a_study_from_python_aims_at_each_target(tmp_path: Path) -> None:
    run = evaluate(Small(), data(N), "fgsm", Linf("64/255"), tmp_path / "a", goal=TARGETS, chunk=5)
    found = sorted(rows(run), key=lambda row: row["sample_id"])
    assert [row["target"] for row in found] == TARGETS
    for row in found:
        assert (row["status"] == "excluded") == (row["target"] == row["label"])
        assert row["status"] != "broken" or row["prediction"] == row["target"]
    (result,) = run.results()
    assert result.excluded == 4 and result.n == 8 and result.broken > 0
    with pytest.raises(BadInput, match=r"has the target 4; the model has 4 classes, 0 to 3\. Count classes from 0"):
        evaluate(Small(), data(N), "fgsm", Linf("64/255"), tmp_path / "b", goal=[4] * N)


def test_a_study_of_a_file_resumes_wherever_the_file_lies(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    by_position = "\n".join(str((at + 1) % 4) for at in range(30))
    (tmp_path / "t.csv").write_text(by_position)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "u.csv").write_text(by_position)
    one, two = (
        study(tiny_model, tiny_source, attacks="fgsm", goal=f"targeted file {tmp_path / name}")
        for name in ("t.csv", "moved/u.csv")
    )
    first = run_here(tmp_path / "run", one)
    assert make_plan(two, Loader()).cells[0].digest in first.cells
    assert rows(run_here(tmp_path / "run", two)) == rows(first)
    # the digests of other goals are as they were
    assert {telling(goal) for goal in ("untargeted", "targeted 3", "out-of-top 2")} == {
        "untargeted", "targeted 3", "out-of-top 2",
    }  # fmt: skip


def test_workers_aim_as_one_process_does(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    (tmp_path / "t.csv").write_text("\n".join(str((at * 3) % 4) for at in range(30)))
    aiming = study(tiny_model, tiny_source, attacks="fgsm", goal=f"targeted file {tmp_path / 't.csv'}")
    alone = run_here(tmp_path / "a", aiming)
    shared = run_here(tmp_path / "b", aiming, executor="processes", workers=1)
    assert rows(alone) == rows(shared)
