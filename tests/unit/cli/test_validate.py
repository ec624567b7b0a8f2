from __future__ import annotations

from tests.support.workplace import Workplace

STUDY = """\
study: a
models: [toy.py:linear, torchvision:resnet50]
data: mnist/test
threats: [{norm: linf, eps: [1/255, 2/255]}, {norm: l2, eps: [1]}]
attacks: [pgd, bim]
"""


def test_a_study_is_counted_and_nothing_is_loaded(place: Workplace) -> None:
    (place.folder / "study.yaml").write_text(STUDY)
    said = place.assay("validate study.yaml")
    assert (said.code, said.out) == (0, "study.yaml is a study: 8 cells, 12 numbers to measure.\n")


def test_slips_are_told_line_by_line(place: Workplace) -> None:
    (place.folder / "study.yaml").write_text(STUDY.replace("pgd", "pgb").replace("norm: l2", "nrm: l2"))
    said = place.assay("validate study.yaml")
    assert (said.code, said.out) == (2, "")
    assert "study.yaml:5:11  attacks[0]" in said.err
    assert "Did you mean 'pgd'?" in said.err
    assert "study.yaml:4:47  threats[1].nrm: Unknown key 'nrm'. Did you mean 'norm'?" in said.err


def test_set_is_checked_as_well(place: Workplace) -> None:
    (place.folder / "study.yaml").write_text(STUDY)
    said = place.assay("validate study.yaml --set threats[0].eps[1]=8")
    assert said.code == 2
    assert "--set threats[0].eps[1]=8:" in said.err
    assert "Did you mean 8/255?" in said.err
