from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import BadInput
from assay.evaluation.study.spec import Study
from assay.evaluation.study.yaml_source import load_study, override, read_yaml, write_yaml

TEXT = """\
study: small
models: [zoo:mnist-cnn]
data: {source: mnist/test, sample: 50, seed: 0}
threats:
  - {norm: linf, eps: [1/255, 0.10, 4/255]}
attacks: [fgsm, {attack: pgd, steps: 40, restarts: 2}]
question: worst_case
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_a_study_file(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, TEXT))
    grid = study.grids[0]
    assert [budget.written for budget in grid.threats[0].eps] == ["1/255", "4/255", "0.10"]
    assert [attack.label for attack in grid.attacks] == ["fgsm", "pgd(restarts=2)"]
    assert grid.data[0].sample == 50


def test_a_written_study_reads_back(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, TEXT))
    assert load_study(written(tmp_path, write_yaml(study.plain()))) == study


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("4/255]", "8]", "study.yaml:5:37  threats[0].eps[2]: 8 is larger than the image range"),
        ("norm: linf", "norm: linff", "study.yaml:5:12  threats[0].norm: Unknown norm 'linff'. Did you mean 'linf'?"),
        ("question:", "qestion:", "study.yaml:7:1  qestion: Unknown key 'qestion'. Did you mean 'question'?"),
        ("steps: 40", "stpes: 40", "study.yaml:6:31  attacks[1].stpes: Attack 'pgd' has no option 'stpes'. Did you"),
        ("steps: 40", "steps: -1", "study.yaml:6:38  attacks[1].steps: Attack 'pgd': steps is -1"),
        ("fgsm,", "fgsmm,", "study.yaml:6:11  attacks[0]: Unknown attack 'fgsmm'. Did you mean 'fgsm'?"),
        ("worst_case", "worst", "study.yaml:7:11  question: Unknown value 'worst'. Did you mean 'worst_case'?"),
        ("models: [zoo:mnist-cnn]", "models: []", "study.yaml:2:9  models: is empty"),
        ("sample: 50", "sample: x", "study.yaml:3:36  data.sample: 'x': "),
        ("models:", "study:", "study.yaml:2:1  The key 'study' is given twice (first at study.yaml:1:1)"),
        ("models: [zoo", "models: [[zoo", "This is not YAML"),
        ("worst_case", "!!python/object:os.system x", "study.yaml:7:11  Values of kind"),
        ("worst_case", "2001-01-01", "study.yaml:7:11  "),
    ],
)
def test_errors_say_line_and_column(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(BadInput) as caught:
        load_study(written(tmp_path, TEXT.replace(before, after, 1)))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "a: &x [*x]", "\x00"])
def test_files_that_are_no_study(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"study\.yaml"):
        load_study(written(tmp_path, text))


def test_aliases_that_multiply_are_stopped(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(BadInput, match="repeats itself too often"):
        load_study(written(tmp_path, "\n".join(levels)))


def test_yaml_1_2_numbers(tmp_path: Path) -> None:
    raw, _ = read_yaml("a: 1e-3\nb: 0o17\nc: yes\nd: ~\ne: true\nf: 012\ng: 1_000\nh: .inf\ni: 0x1F", "x")
    expected: dict[str, Any] = {"a": 1e-3, "b": 15, "c": "yes", "d": None, "e": True, "f": 12, "i": 31}
    assert {key: value for key, value in raw.items() if key not in ("g", "h")} == expected
    assert raw["h"] == float("inf")


def test_a_missing_file_is_said() -> None:
    with pytest.raises(BadInput, match="could not be read"):
        load_study("no/such/study.yaml")


def changed(*overrides: str) -> Study:
    return Study.of(*override(*read_yaml(TEXT, "study.yaml"), overrides))


def test_overrides_reach_everything() -> None:
    study = changed(
        "threats[0].eps=[2/255, 0.20]", "attacks.1.steps=20", "data.sample=7", "seed=5", "models[0].outputs=logits"
    )
    grid = study.grids[0]
    assert [budget.written for budget in grid.threats[0].eps] == ["2/255", "0.20"]
    assert [grid.attacks[1].options["steps"], grid.data[0].sample, grid.seed] == [20, 7, 5]
    assert changed("models.0.outputs=probabilities").grids[0].models[0].outputs == "probabilities"
    assert changed("attacks=pgd").grids[0].attacks[0].label == "pgd"
    assert [attack.label for attack in changed("attacks[2]=bim").grids[0].attacks] == ["fgsm", "pgd(restarts=2)", "bim"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("threats[0].eps=8", "--set threats[0].eps=8:  threats[0].eps: 8 is larger"),
        ("threats[0].eps[1]=9", "--set threats[0].eps[1]=9:  threats[0].eps[1]: 9 is larger"),
        ("data.smaple=9", "--set data.smaple=9:  data.smaple: Unknown key 'smaple'. Did you mean 'sample'?"),
        ("attacks[7].steps=9", "has 2 entries, from 0; 7 is none of them"),
        ("threats.eps=0.1", "is a list; write threats[0].eps=..."),
        ("seed.x=1", "seed"),
        ("question.x=1", "question is 'worst_case', which has nothing inside it"),
        ("seed", "--set takes path.to.key=value"),
        ("=3", "--set takes path.to.key=value"),
        ("seed=[", "--set seed=["),
    ],
)
def test_overrides_that_miss_are_named(given: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        changed(given)
    assert said in str(caught.value)


def test_an_override_does_not_change_what_it_is_given() -> None:
    raw, places = read_yaml(TEXT, "study.yaml")
    before = read_yaml(TEXT, "study.yaml")[0]
    override(raw, places, ["data.sample=3", "attacks[0]=bim"])
    assert raw == before


def test_a_file_nested_beyond_all_measure() -> None:
    with pytest.raises(BadInput, match=r"deep\.yaml is nested too deep to be a study"):
        read_yaml("[" * 1100, "deep.yaml")
