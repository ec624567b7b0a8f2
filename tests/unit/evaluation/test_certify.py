"""Certificates in studies: what is asked, what is recorded, certify first, and a proof that an attack breaks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import assay
from assay.attacks.options import Option
from assay.certification import CERTIFICATES, CertificateEntry, Certificates
from assay.certification.bounds.methods import CROWN, hidden_values
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.objective import margin
from assay.core.oracle import Access
from assay.core.problem import Problem
from assay.evaluation.analysis.brackets import allowed, bracket_tables
from assay.evaluation.contradictions import CertificateBroken, check_brackets
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.spec import Study
from assay.models import Classifier
from tests.support import tiny

BUDGETS = ("0.005", "0.02", "0.05")


@dataclasses.dataclass(frozen=True)
class Claims:
    """Says that an image is certified at each budget below `share` times its lead in logits, and proves nothing."""

    share: Annotated[float, Option("What a lead is worth.")] = 1.0
    fails: Annotated[float, Option("The probability that a statement is false.")] = 0.0

    @property
    def alpha(self) -> float:
        return self.fails

    def check(self, model: Classifier, problem: Problem) -> None:
        if len(problem.x) > 1:
            raise BadInput("a few images are looked at, not all")

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, draws)
        lead = -seen.gap
        certified = torch.stack([self.share * lead > budget for budget in budgets])
        return Certificates(certified, seen.logits.argmax(1), None, (self.share * lead).double(), seen.cost)


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CertificateEntry(Claims, "claims", "", "", ("linf",), "any")
    monkeypatch.setitem(CERTIFICATES, "claims", entry)


def study(place: Path, **changes: Any) -> Study:
    plain = {
        "study": "bounded",
        "models": tiny.write_model(place / "model"),
        "data": tiny.write_pictures(place / "pictures", 24) if not (place / "pictures").exists() else
        f"folder:{place / 'pictures'}",
        "threats": {"norm": "linf", "eps": list(BUDGETS)},
        "attacks": "pgd:steps=20",
        "chunk": 10,
        **changes,
    }  # fmt: skip
    if isinstance(plain["attacks"], str):
        name, _, options = plain["attacks"].partition(":")
        given = dict(part.split("=") for part in options.split(",") if part)
        plain["attacks"] = {"attack": name, **{key: int(value) for key, value in given.items()}}
    return Study.of({key: value for key, value in plain.items() if value is not None})


def statuses(run: Run) -> dict[tuple[float, str], str]:
    rows = run.records(["eps", "sample_id", "status"]).to_pylist()
    return {(row["eps"], row["sample_id"]): row["status"] for row in rows}


def as_numbers(run: Run) -> list[tuple[float, int, int, int]]:
    return [(one.eps, one.n, one.survived, one.broken) for one in run.results()]


@pytest.mark.parametrize(
    ("written", "before", "methods"),
    [
        (None, "auto", []),
        ("first", "first", []),
        (False, "off", []),
        ("crown", "off", ["crown"]),
        (["first", "ibp"], "first", ["ibp"]),
        ([{"certificate": "crown"}], "off", ["crown"]),
    ],
)
def test_a_study_says_when_and_what_is_certified(tmp_path: Path, written: Any, before: str, methods: list[str]) -> None:
    read = study(tmp_path, certify=written)
    (grid,) = read.grids
    assert (grid.certify.before, [one.certificate for one in grid.certify.methods]) == (before, methods)
    assert Study.of(read.plain()) == read


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"certify": "crow"}, "Did you mean 'crown'"),
        ({"certify": ["first", "off"]}, "first and off"),
        ({"certify": 3}, "3 is no certificate"),
        ({"certify": "crown:colour=1"}, "no option 'colour'"),
        ({"attacks": None, "certify": "first"}, "Name one, or write certify: crown"),
    ],
)
def test_slips_are_told_with_their_fix(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        study(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"certify": "first", "question": "as_attacked"}, "untargeted worst cases alone"),
        ({"certify": "first", "goal": "targeted least-likely"}, "untargeted worst cases alone"),
        ({"certify": "first", "threats": {"norm": "l0", "eps": 3}, "attacks": "sigma-zero"}, "speaks of linf, l2, l1"),
        ({"certify": "crown", "threats": {"norm": "l0", "eps": 3}, "attacks": None}, "not of l0"),
    ],
)
def test_what_no_bound_speaks_of_is_refused_before_the_run(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_plan(study(tmp_path, **changes), Loader())


def test_certificate_and_attack_meet_on_a_linear_network(tmp_path: Path) -> None:
    asked = study(tmp_path, certify=["crown"], attacks="apgd-t:steps=20")
    run = run_study(asked, tmp_path / "run")
    (table,) = run.brackets()
    assert [one.eps for one in table.brackets] == [float(one) for one in BUDGETS]
    # both are exact here: nothing is open, and something falls between the smallest and the largest budget
    assert [one.open for one in table.brackets] == [0, 0, 0]
    assert table.brackets[0].certified > table.brackets[-1].certified
    assert [one.certified for one in table.brackets] == [one.survived for one in run.results()]
    records = run.certificates().to_pylist()
    assert len(records) == 24 * 3 and {row["certificate"] for row in records} == {"crown"}
    assert all(((row["lower"] or 0) > 0) == row["certified"] for row in records if row["answer"] == "right")
    assert sum(row["forwards"] + row["backwards"] for row in records) > 0
    # the same study is done, and other readers see attacks alone
    assert run.records().num_rows == 24 * 3 and not run.gaps()
    assert run_study(asked, tmp_path / "run").manifest["finished"] == run.manifest["finished"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": "descending"},
        {"attacks": "fmn:steps=30"},
        {"attacks": "pgd:steps=5,restarts=2"},
        {"threats": {"norm": "l2", "eps": [0.05, 0.3, 0.6]}, "attacks": "pgd:steps=40"},
    ],
)
def test_certify_first_gives_the_same_numbers_for_fewer_passes(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = run_study(study(tmp_path, certify="off", **changes), tmp_path / "off")
    first = run_study(study(tmp_path, certify="first", **changes), tmp_path / "first")
    assert as_numbers(first) == as_numbers(plain)
    bounded, without = statuses(first), statuses(plain)
    proved = [key for key, status in bounded.items() if status == "certified"]
    assert proved
    # what is proved was not broken without the proof either, and all else is as it was
    assert all(without[key] == "survived" for key in proved)
    assert {key: one for key, one in bounded.items() if key not in proved} == {
        key: one for key, one in without.items() if key not in proved
    }
    backwards = [sum(run.records(["backwards"])["backwards"].to_pylist()) for run in (first, plain)]
    assert backwards[0] < backwards[1]
    (table,) = first.brackets()
    assert [one.certified for one in table.brackets] == [one.certified for one in first.results()]


def test_what_may_change_nowhere_else_is_certified_more_often(tmp_path: Path) -> None:
    def certified(**threat: Any) -> int:
        found = run_study(
            study(tmp_path, certify="crown", attacks=None, threats={"norm": "linf", "eps": 0.05, **threat}),
            tmp_path / f"run {threat}",
        )
        (table,) = found.brackets()
        return table.brackets[0].certified

    assert certified(box=False) <= certified() < certified(channels=0)


def test_processes_certify_as_one_does(tmp_path: Path) -> None:
    asked = study(tmp_path, certify=["first", "ibp"])
    one = run_study(asked, tmp_path / "one")
    two = run_study(asked, tmp_path / "two", Options(executor="processes", workers=2))

    def rows(table: pa.Table) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in table.to_pylist()]

    assert rows(one.certificates()) == rows(two.certificates())
    assert rows(one.records()) == rows(two.records())


def test_auto_puts_a_bound_first_where_it_pays(tmp_path: Path) -> None:
    def first(**changes: Any) -> list[str]:
        return [cell.before for cell in make_plan(study(tmp_path, **changes), Loader()).cells]

    # 3 x 200 steps against one pass of a bound that proves most; a short attack is cheaper than any bound
    assert first(attacks="pgd:steps=200")[0].startswith("crown")
    assert first(attacks="pgd:steps=5") == [""]
    # nothing is proved at a budget of a half
    assert first(attacks="pgd:steps=200", threats={"norm": "linf", "eps": 0.5}) == [""]
    digests = [make_plan(study(tmp_path, certify=one), Loader()).cells[0].digest for one in ("off", "auto", "first")]
    assert digests[0] == digests[1] != digests[2]


def test_auto_asks_no_bound_about_a_large_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
    )
    assert hidden_values(assay.load_model(net.eval()), torch.rand(2, 3, 8, 8)) == 32 * 8 * 8
    (tmp_path / "wide.py").write_text(
        "from torch import nn\n\n\n"
        "def factory():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 20001), nn.ReLU(), nn.Linear(20001, 4))\n"
    )

    def asked(*_: object) -> Certificates:
        raise AssertionError("a bound was asked")

    monkeypatch.setattr(CROWN, "prove", asked)
    large = {"models": f"{tmp_path / 'wide.py'}:factory", "attacks": "pgd:steps=200"}
    assert make_plan(study(tmp_path, **large), Loader()).cells[0].before == ""
    # a smaller one is asked
    with pytest.raises(AssertionError, match="a bound was asked"):
        make_plan(study(tmp_path, attacks="pgd:steps=200"), Loader())


def test_a_broken_proof_stops_the_run_and_keeps_both(tmp_path: Path, claims: None) -> None:
    asked = study(tmp_path, certify="claims")
    run = run_study(asked, tmp_path / "run")
    with pytest.raises(CertificateBroken, match=r"is certified by claims and broken by pgd") as caught:
        check_brackets(run, Loader())
    assert caught.value.exit_code == 1
    kept = tmp_path / "run" / "contradictions"
    told = json.loads((kept / "1.json").read_text())
    assert told["certificate_records"] and told["attack_records"]
    images = load_file(kept / "1.safetensors")
    change = (images["adversarial"] - images["image"]).abs().amax((1, 2, 3))
    assert bool((change <= torch.tensor([float(one) for one in BUDGETS]) * 1.0001 + 1e-6).all())
    again = Run.open(tmp_path / "run")
    assert not again.reportable and any("contradict" in why for why in again.manifest["not_reportable_because"])
    # a sound claim contradicts nothing
    check_brackets(run_study(study(tmp_path, certify="claims:share=0.001"), tmp_path / "sound"), Loader())


def test_a_statistical_certificate_may_be_wrong_as_often_as_it_says(tmp_path: Path) -> None:
    assert allowed(500, 0.001) == 4 and allowed(500, 0) == 0

    def rows(broken: int, alpha: float) -> tuple[pa.Table, pa.Table]:
        common = {"model": "m", "data": "d", "threat": "l2", "unit": "pixel", "eps": 1.0, "eps_written": "1"}
        ids = [f"s{i}" for i in range(500)]
        attacked = [
            {**common, "cell": "c", "attack": "pgd", "sample_id": one, "status": "broken" if i < broken else "survived"}
            for i, one in enumerate(ids)
        ]
        certified = [
            {**common, "certificate": "votes", "alpha": alpha, "sample_id": one, "answer": "right", "certified": True}
            for one in ids
        ]
        return pa.Table.from_pylist(attacked), pa.Table.from_pylist(certified)

    for broken, alpha, wrong in ((4, 0.001, 0), (5, 0.001, 5), (1, 0.0, 1)):
        (table,) = bracket_tables(*rows(broken, alpha))
        assert (len(table.contradictions), len(table.certain_contradictions)) == (broken, wrong)
        (one,) = table.brackets
        assert (one.survived, one.certified, one.open) == (500 - broken, 500, 0)


def test_python_certifies_and_evaluates(tmp_path: Path) -> None:
    model, data = assay.load_model(tiny.write_model(tmp_path)), tiny.data(12)
    found = assay.certify(model, data, assay.Linf(0.005), out=tmp_path / "run")
    (table,) = found.brackets()
    (one,) = table.brackets
    assert one.survived is None and one.open is None and one.high == 1.0
    assert 0 < one.certified <= 12 and one.low < one.certified_accuracy
    assert found.run.certificates().num_rows == 12 and not found.results() and not found.verdicts()
    with pytest.raises(BadInput, match="needs a threat"):
        assay.certify(model, data)
    both = assay.evaluate(model, data, "pgd", assay.Linf(0.005), certify="first", audit="off")
    assert both.brackets()[0].brackets[0].certified == one.certified == both.results()[0].certified
