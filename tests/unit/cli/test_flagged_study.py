from __future__ import annotations

from pathlib import Path

import pytest

from assay.console.flags import StudyFlags
from assay.console.study_from_flags import parse_budgets, read_study
from assay.core.errors import BadInput
from assay.evaluation.study.attacks import parse_attack
from assay.vocabulary import Norm, Order, Outputs, Question

STUDY = """\
study: two-grids
models: [a.py:f]
data: {source: mnist/test, seed: 5}
seed: 1
grids:
  - threats: [{norm: linf, eps: [1/255, 2/255]}]
    attacks: [fgsm]
    question: as_attacked
  - threats: [{norm: l2, eps: [0.5]}]
    attacks: [{attack: pgd, steps: 10}]
    models: [{model: b.py:f, outputs: probabilities}]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)


def complete(**flags: object) -> StudyFlags:
    told: dict[str, object] = {"model": ["m.py:f"], "data": ["mnist/test"], "attack": ["fgsm"], "eps": ["4/255"]}
    return StudyFlags(**{**told, **flags})  # type: ignore[arg-type]


def test_flags_alone_make_a_study() -> None:
    flags = complete(
        outputs=Outputs.PROBABILITIES, attack=["fgm", "pgd:steps=40,restarts=2"], eps=["0.5,1", "2"], norm=Norm.L2,
        box=False, grid=255, question=Question.AS_ATTACKED, goal="out-of-top 5", order=Order.DESCENDING, per_class=3,
        seed=7,
    )  # fmt: skip
    (grid,) = read_study(flags).study.grids
    assert [(one.model, one.outputs) for one in grid.models] == [("m.py:f", "probabilities")]
    assert (grid.data[0].source, grid.data[0].per_class, grid.data[0].limit) == ("mnist/test", 3, None)
    assert [one.label for one in grid.attacks] == ["fgm", "pgd(restarts=2)"]
    (threat,) = grid.threats
    assert [budget.written for budget in threat.eps] == ["0.5", "1", "2"]
    assert (threat.norm, threat.box, threat.grid) == ("l2", False, 255)
    assert (grid.question, grid.goal, grid.order, grid.seed) == ("as_attacked", "out-of-top 5", "descending", 7)


def test_flags_lie_over_every_grid_of_a_file() -> None:
    flags = StudyFlags(study="study.yaml", seed=3, limit=10, eps=["0.1"], outputs=Outputs.PROBABILITIES, attack=["bim"])
    first, second = read_study(flags).study.grids
    for grid in (first, second):
        assert grid.seed == 3
        assert (grid.data[0].limit, grid.data[0].seed) == (10, 5)
        assert [budget.written for budget in grid.threats[0].eps] == ["0.1"]
        assert [attack.label for attack in grid.attacks] == ["bim"]
        assert grid.models[0].outputs == "probabilities"
    # what no flag speaks of stays
    assert (first.threats[0].norm, second.threats[0].norm) == ("linf", "l2")
    assert (first.models[0].model, second.models[0].model) == ("a.py:f", "b.py:f")
    assert (first.question, second.question) == ("as_attacked", "worst_case")


def test_a_model_flag_replaces_the_models_of_every_grid() -> None:
    grids = read_study(StudyFlags(study="study.yaml", model=["c.py:f"])).study.grids
    assert [[one.label for one in grid.models] for grid in grids] == [["c.py:f"], ["c.py:f"]]


def test_set_lies_over_flags() -> None:
    flags = StudyFlags(study="study.yaml", seed=3, set=["seed=4", "grids[1].attacks[0].steps=20"])
    first, second = read_study(flags).study.grids
    assert first.seed == 4
    assert second.attacks[0].label == "pgd(steps=20)"


def test_a_file_without_flags_is_the_file() -> None:
    asked = read_study(StudyFlags(study="study.yaml"))
    assert asked.study.study == "two-grids"
    assert (asked.directory, asked.chosen) == (Path("runs/two-grids"), True)


def test_a_run_directory_is_a_study() -> None:
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/study.lock.yaml").write_text(STUDY)
    asked = read_study(StudyFlags(study="runs/a"))
    assert (asked.study.study, asked.directory) == ("two-grids", Path("runs/a"))


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "m-f-mnist-test-fgsm"),
        ({"model": ["torchvision:resnet50@IMAGENET1K_V2"], "data": ["folder:/a/b c/photos/"]}, "resnet50-photos-fgsm"),
        ({"model": ["zoo:mnist-cnn"], "attack": ["pgd:steps=4", "fgsm"]}, "mnist-cnn-mnist-test-pgd-steps-4-fgsm"),
        ({"model": ["file:w/net.safetensors?arch=mnist-cnn"]}, "net-mnist-test-fgsm"),
        ({"data": ["folder:."]}, "m-f-folder-fgsm"),
        ({"data": ["folder:~/ümlaut"]}, "m-f-mlaut-fgsm"),
    ],
)
def test_a_study_of_flags_has_a_name_that_a_folder_can_have(flags: dict[str, list[str]], name: str) -> None:
    asked = read_study(complete(**flags))
    assert asked.study.study == name
    assert (asked.directory, asked.chosen) == (Path("runs") / name, False)


def test_a_study_of_flags_is_called_after_the_directory_named_for_it() -> None:
    one, two = (read_study(complete(attack=attack), Path("out/my run")) for attack in (["fgsm"], ["fgsm", "pgd"]))
    assert one.study.study == two.study.study == "my-run"
    assert (one.directory, one.chosen) == (Path("out/my run"), True)


@pytest.mark.parametrize(
    ("given", "budgets"),
    [
        (["4/255"], ["4/255"]),
        (["0, 1/255,2/255", "0.1"], ["0", "1/255", "2/255", "0.1"]),
        (["normalized 0.01, 0.02"], ["normalized 0.01", "normalized 0.02"]),
    ],
)
def test_budgets(given: list[str], budgets: list[str]) -> None:
    assert parse_budgets(given) == budgets


def test_attacks() -> None:
    assert parse_attack("pgd") == {"attack": "pgd"}
    assert parse_attack("pgd:steps=40, step_size=0.1,random_start=false,objective=margin") == {
        "attack": "pgd", "steps": 40, "step_size": 0.1, "random_start": False, "objective": "margin",
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"--attack pgd:40: '40' is no option=value.*pgd:steps=40"):
        parse_attack("pgd:40")


def test_the_kind_of_an_option_says_what_its_value_is() -> None:
    assert parse_attack("pgd:step_size=1,surrogate_digest=0123,surrogate=1") == {
        "attack": "pgd", "step_size": 1, "surrogate_digest": "0123", "surrogate": "1",
    }  # fmt: skip
    assert parse_attack("patch:file=a,b.safetensors,at=10,20,places=2") == {
        "attack": "patch", "file": "a,b.safetensors", "at": "10,20", "places": 2,
    }  # fmt: skip
    # what no table knows is read as a number where it is one
    assert parse_attack("mine:steps=4") == {"attack": "mine", "steps": 4}
    with pytest.raises(BadInput, match="'2' is no option=value"):
        parse_attack("pgd:steps=1,2")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eps": ["8"]}, r"^--eps: 8 is larger than the image range \[0, 1\]\. Did you mean 8/255\?"),
        ({"eps": ["-0.1"]}, r"^--eps: The budget -0\.1 is negative"),
        ({"eps": ["nan"]}, r"^--eps: 'nan' is not a budget"),
        ({"eps": ["0.1,0.1"]}, r"^--eps: '0\.1' is the same budget"),
        ({"attack": ["pgdd"]}, r"^--attack: Unknown attack 'pgdd'\. Did you mean 'pgd'\?"),
        ({"attack": ["pgd:stps=3"]}, r"^--attack: Attack 'pgd' has no option 'stps'\. Did you mean 'steps'\?"),
        ({"goal": "targetd 3"}, r"^--goal: 'targetd 3' is not a goal\. Did you mean 'targeted'\?"),
        ({"limit": 0}, r"^--limit: "),
        ({"set": ["attacks[0].steps=2"]}, r"^--set attacks\[0\]\.steps=2: .*fgsm"),
        ({"set": ["steps"]}, r"--set takes path\.to\.key=value"),
    ],
)
def test_a_slip_names_its_flag(flags: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_study(complete(**flags))


def test_a_slip_in_a_file_names_its_place() -> None:
    Path("study.yaml").write_text(STUDY.replace("seed: 5", "sed: 5").replace("2/255", "8"))
    with pytest.raises(BadInput) as raised:
        read_study(StudyFlags(study="study.yaml"))
    lines = str(raised.value).splitlines()
    assert any(line.startswith("study.yaml:3:28  data.sed: Unknown key 'sed'. Did you mean 'seed'?") for line in lines)
    assert any(line.startswith("study.yaml:6:41  grids[0].threats[0].eps[1]: 8 is larger than") for line in lines)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(BadInput, match=r"Nothing to run\. Give a study file, or flags such as --model"):
        read_study(StudyFlags())
    with pytest.raises(BadInput, match=r"^--data is missing\. Write for example --data mnist/test\.\n--eps is missing"):
        read_study(StudyFlags(model=["a.py:f"], attack=["fgsm"]))


def test_a_study_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"There is no study 'torchvision:alexnet'\. Did you mean --model torchvis"):
        read_study(StudyFlags(study="torchvision:alexnet"))
    with pytest.raises(BadInput, match=r"There is no study 'studies/x\.yaml'\. Give a YAML file"):
        read_study(StudyFlags(study="studies/x.yaml"))
    Path("folder").mkdir()
    with pytest.raises(BadInput, match=r"folder is a folder without a study\.lock\.yaml"):
        read_study(StudyFlags(study="folder"))
    Path("binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="The study binary could not be read"):
        read_study(StudyFlags(study="binary"))


def test_a_judge_goes_to_every_grid_with_what_it_returns() -> None:
    flags = StudyFlags(study="study.yaml", judge="b.onnx.py:f", judge_outputs=Outputs.PROBABILITIES)
    for grid in read_study(flags).study.grids:
        assert grid.judge is not None
        assert (grid.judge.model, grid.judge.outputs) == ("b.onnx.py:f", "probabilities")
    with pytest.raises(BadInput, match=r"--judge: m\.py:f is one of the models"):
        read_study(complete(judge="m.py:f"))
