"""The rows of a gate as a study writes them: read, kept, and refused with their place."""

from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.evaluation.study.gate import GateRow, Wanted, parse_threat, parse_wanted
from assay.evaluation.study.spec import Study, study_schema
from assay.evaluation.study.yaml_source import read_yaml, write_yaml

HEAD = "study: s\nmodels: [zoo:mnist-cnn]\ndata: mnist/test\nthreats: [{norm: linf, eps: [4/255]}]\nattacks: [fgsm]\n"


def study(rows: str) -> Study:
    return Study.of(*read_yaml(f"{HEAD}gate:\n{rows}", "a.yaml"))


def test_rows_are_read_and_written_back() -> None:
    read = study("""
  - {robust_accuracy: ">= 40 %", threat: linf 4/255, verdict: trusted}
  - {clean_accuracy: at least 0.75}
  - {against: baseline, robust_accuracy: "not worse by more than 1 point", confidence: 99 %}
  - {class: 3, robust_accuracy: ">= 10 %"}
  - {verdict: not refuted}
""")
    assert Study.of(*read_yaml(write_yaml(read.plain()), "b.yaml")) == read
    assert [row.wanted for row in read.gate] == [
        Wanted(0.4, False), Wanted(0.75, False), Wanted(0.01, True), Wanted(0.1, False), None,
    ]  # fmt: skip
    assert (read.gate[2].confidence, read.gate[3].class_) == (0.99, "3")
    assert read.gate[2].text == "robust_accuracy not worse by more than 1 point, against baseline, confidence 99 %"


def test_a_study_without_a_gate_is_written_as_before() -> None:
    assert "gate" not in Study.of(*read_yaml(HEAD, "a.yaml")).plain()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{robust_accuracy: 40}", r"a.yaml:7:23  gate\[0\].robust_accuracy: 40 is no limit. Write '>= 40 %'"),
        ('{robust_accuracy: ">= 40"}', r"40 times all images. Did you mean '>= 40 %'"),
        ('{robust_accuracy: ">= 0 %"}', "every number reaches it"),
        ('{robust_accuracy: ">= 100 %"}', "no number of images shows it"),
        ('{robust_acuracy: ">= 40 %"}', "Did you mean 'robust_accuracy'"),
        ("{verdict: trustd}", "Did you mean 'trusted'"),
        ("{verdict: any}", r"gate\[0\].verdict: 'any' asks for nothing by itself"),
        ("{}", "asks for nothing"),
        ('{clean_accuracy: ">= 4 %", threat: linf}', r"a.yaml:7:\d+  gate\[0\].threat: .*Leave it out"),
        ('{clean_accuracy: ">= 4 %", verdict: trusted}', r"gate\[0\].verdict"),
        ('{clean_accuracy: ">= 4 %", robust_accuracy: ">= 4 %"}', "Write two rows"),
        ('{verdict: trusted, class: "*"}', r"gate\[0\].class"),
        ('{against: baseline, robust_accuracy: ">= 4 %"}', "is no change"),
        ('{robust_accuracy: "not worse by more than 1 point"}', "needs 'against: baseline'"),
        ("{robust_accuracy: not worse, against: baseline}", "has no margin"),
        ('{robust_accuracy: "not worse by more than 0 points", against: baseline}', "more than 0"),
        ('{robust_accuracy: ">= 4 %", threat: linv 3/255}', "Did you mean 'linf'"),
        ('{robust_accuracy: ">= 4 %", confidence: 120 %}', "no confidence"),
        ('{robust_accuracy: ">= 4 %", confidence: true}', "no confidence"),
        ('{robust_accuracy: ">= 4 %", threat: 3}', "no threat"),
    ],
)
def test_slips_are_refused_with_their_place(row: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        study(f"  - {row}\n")


def test_threats_are_read() -> None:
    assert parse_threat("linf 4/255").budget == parse_threat("LINF 4/255").budget
    plain = parse_threat("linf grid=255 normalized 0.02")
    assert plain.words == ("linf", "grid=255")
    assert plain.budget is not None
    assert (plain.budget.value, plain.budget.unit) == (0.02, "normalized")
    assert parse_threat("l2").budget is None


def test_percentage_points_are_read() -> None:
    for text in ("not worse by more than 1.5 points", "not worse by more than 1.5 percentage points"):
        assert parse_wanted(text) == Wanted(0.015, True)


def test_the_schema_describes_the_gate() -> None:
    schema = study_schema()
    assert set(schema["$defs"]["GateRow"]["properties"]) == {
        field.alias or name for name, field in GateRow.model_fields.items()
    }
    assert "gate" in schema["properties"]
