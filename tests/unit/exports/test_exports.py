"""What exports hold is what `assay show --json` prints, whatever names are in it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from ruamel.yaml import YAML

import assay
from assay.core.errors import BadInput
from assay.evaluation.run import Run
from assay.exports import clauses
from assay.exports.clauses import CLAUSES
from assay.exports.evidence import NO_ANSWER, STATEMENT, held_by
from assay.exports.facts import Facts, finite, kept
from assay.exports.model_card import _card, _yaml, write_model_card
from assay.exports.table import EXPORTS, export_run
from assay.report.numbers import as_plain
from tests.support.hostile_run import CLASSES, STUDY, hostile_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def shown(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(as_plain(run), allow_nan=False))


def test_the_run_is_worth_exporting(shown: dict[str, Any]) -> None:
    left = [one["robust_accuracy"] for one in shown["results"]]
    assert len(left) == 4 and len(set(left)) > 1 and 0 < min(left) < 1
    assert shown["study"] == STUDY


def test_json_is_show_and_what_it_rests_on(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    (written,) = export_run(run, "json", tmp_path / "out.json")
    read = json.loads(Path(written).read_text(encoding="utf-8"))
    facts = read.pop("facts")
    assert read == shown
    (data,) = facts["data"].values()
    assert sorted(data["classes"]) == sorted(CLASSES)
    assert facts["models"].keys() == {one["model"] for one in shown["results"]}
    assert set(facts["cells"]) == {one["cell"] for one in shown["results"]}


def test_csv_is_a_row_per_number(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    (written,) = export_run(run, "csv", tmp_path)
    assert written == str(tmp_path / "results.csv")
    with Path(written).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(shown["results"])
    for row, one in zip(rows, shown["results"], strict=True):
        assert (row["study"], row["reportable"]) == (STUDY, "False")
        for name, value in one.items():
            if isinstance(value, float):
                assert float(row[name]) == value
            else:
                assert row[name] == ("" if value is None else str(value))


def front_matter(text: str) -> str:
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_a_model_card_reads_the_same_in_both_versions_of_yaml(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    (written,) = export_run(run, "model-card", tmp_path / "card")
    head = front_matter(Path(written).read_text(encoding="utf-8"))
    read = yaml.safe_load(head)
    assert read == json.loads(json.dumps(YAML(typ="safe").load(head)))
    (one,) = read["model-index"]
    (result,) = one["results"]
    assert one["name"] == shown["results"][0]["model"]
    assert result["dataset"]["name"] == shown["results"][0]["data"]
    clean, *metrics = result["metrics"]
    assert (clean["type"], clean["value"]) == ("accuracy", shown["results"][0]["clean_accuracy"])
    single = len(shown["results"])
    assert [one["value"] for one in metrics[single:]] == [one["robust_accuracy"] for one in Facts(run).worst]
    for metric, row in zip(metrics[:single], shown["results"], strict=True):
        assert (metric["type"], metric["value"]) == ("robust_accuracy", row["robust_accuracy"])
        for name in ("attack", "threat", "eps", "n", "robust_low", "robust_high", "cell", "seed"):
            assert metric["args"][name] == row[name]
        # the run is of few images, and nobody audited it
        assert (metric["args"]["verdict"], metric["args"]["reportable"]) == ("not audited", False)


@pytest.mark.parametrize(
    "value",
    [1e-05, 1e22, -2.5, 0.1 + 0.2, 3, True, None, "no", "1e3", "12:30", "~", "- a", "\x7f\x85\u2028\ufeff😀", "a\tb\\"],
)
def test_values_come_back_from_yaml(value: Any) -> None:
    for inside in (value, [value], {"a": [value, {"b": value}]}, [[value], [value]]):
        text = "\n".join(_yaml({"key": inside}))
        assert yaml.safe_load(text) == {"key": inside}
        assert YAML(typ="safe").load(text) == {"key": inside}


def test_the_worst_case_is_what_no_attack_of_several_broke(run: Run) -> None:
    worst = Facts(run).worst
    records = run.records().to_pylist()
    assert len(worst) == 2 and {one["n"] for one in worst} == {24}
    for one in worst:
        at = [record for record in records if record["eps"] == one["eps"]]
        assert len({record["cell"] for record in at}) == 2
        lost = {record["sample_id"] for record in at if record["status"] != "survived"}
        assert one["robust_accuracy"] == pytest.approx(1 - len(lost) / 24)
        assert one["cell"] is None and one["attack"] == "worst case over fgsm, pgd(steps=3)"


def a_row(run: Run, **changed: Any) -> dict[str, Any]:
    return {**Facts(run).rows[-1], **changed}


def test_a_refuted_number_is_what_the_escalation_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuted = a_row(run, verdict="refuted", robust_accuracy=0.9, after_escalation=0.25)
    assert kept(refuted) == 0.25
    assert kept({**refuted, "verdict": "suspect"}) == 0.9
    facts = Facts(run)
    monkeypatch.setitem(facts.__dict__, "rows", [refuted])
    monkeypatch.setitem(facts.__dict__, "worst", [])
    read = yaml.safe_load(front_matter(_card(facts, refuted["model"])))
    (_, metric) = read["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == 0.25 and metric["args"]["as_first_measured"] == 0.9
    assert not {"robust_low", "robust_high"} & metric["args"].keys()


def test_one_attack_and_black_boxes_are_not_called_robust(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    single = a_row(run, question="as_attacked")
    asked = a_row(run, access="scores", queries_limit=100, wording="not broken within 100 queries")
    facts = Facts(run)
    ignoring = a_row(run, ignores_defense=True)
    monkeypatch.setitem(facts.__dict__, "rows", [single, asked, ignoring])
    monkeypatch.setitem(facts.__dict__, "worst", [])
    card = _card(facts, single["model"])
    (_, one, two, three) = yaml.safe_load(front_matter(card))["model-index"][0]["results"][0]["metrics"]
    assert (one["type"], two["type"]) == ("accuracy_under_attack", "not_broken_within_queries")
    assert three["type"] == "not_broken_not_adaptive"
    assert "one attack, not robustness" in one["name"] and two["name"].startswith("Not broken within 100 queries")
    assert "robust accuracy" not in card.partition("\n---\n")[2].lower()


def test_croissant_describes_the_files_beside_it(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    written = export_run(run, "croissant", tmp_path / "c")
    assert [Path(one).name for one in written] == ["metadata.json", "results.parquet", "records.parquet"]
    told = json.loads(Path(written[0]).read_text(encoding="utf-8"))
    assert told["name"] == STUDY and "too few to report" in told["description"]
    for one in told["distribution"]:
        assert hashlib.sha256((tmp_path / "c" / one["contentUrl"]).read_bytes()).hexdigest() == one["sha256"]
    rows = pq.read_table(tmp_path / "c" / "results.parquet").to_pylist()
    assert [{name: row[name] for name in shown["results"][0]} for row in rows] == shown["results"]
    assert pq.read_table(tmp_path / "c" / "records.parquet").num_rows == run.records().num_rows
    for told_set in told["recordSet"]:
        table = pq.read_table(tmp_path / "c" / f"{told_set['name']}.parquet")
        assert [field["name"] for field in told_set["field"]] == table.column_names


def test_croissant_has_the_records_piece_by_piece(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.records()
    monkeypatch.setattr("assay.evaluation.records.shards.PIECE", 1)
    assert len(list(run.pieces(whole.column_names))) > 1
    monkeypatch.setattr(Run, "records", lambda *_: pytest.fail("all records at once"))
    export_run(run, "croissant", tmp_path / "c")
    assert pq.read_table(tmp_path / "c" / "records.parquet").equals(whole)


def tables(text: str) -> Iterator[list[str]]:
    """Yield the cells of every row of a table of Markdown, as GitHub splits them."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield re.split(r"(?<!\\)\|", line)[1:-1]


def test_evidence_has_the_numbers_and_no_claim(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    markdown, plain = (Path(one) for one in export_run(run, "evidence", tmp_path / "e"))
    read = json.loads(plain.read_text(encoding="utf-8"))
    assert read["numbers"] == shown
    assert read["signatures"] == dict.fromkeys(("name", "role", "organisation", "date", "signature"), "")
    assert any("too few to report" in reason for reason in read["reservations"])
    text = markdown.read_text(encoding="utf-8")
    assert STATEMENT in text and "not a statement of conformity" in text
    for name in ("Name", "Date", "Signature"):
        assert f"| {name} | |" in text
    # no name ends a row, opens a tag or a heading
    assert "<script" not in text and "<b>" not in text and "\n---\n" not in text.replace("|---|", "")
    results = [row for row in tables(text) if len(row) == 11]
    assert len(results) == 2 + len(shown["results"]) + len(read["worst_case"])
    assert [row[2].strip() for row in results[-2:]] == ["worst case over fgsm, pgd(steps=3)"] * 2
    by_clause = {one["clause"]: one["answered_by"] for one in read["clauses"]}
    # it asks for accuracy, and no number under attack is that
    assert not any("robust" in answer for answer in by_clause["Article 15(3)"])
    assert by_clause["Article 15(5)"] and by_clause["NISTAML.022 Evasion"]
    for clause in (
        "5.3 Stability",
        "Article 15(4)",
        "AML.T0043.001 Black-Box Optimization",
        "NISTAML.025 Black-box Evasion",
    ):
        assert by_clause[clause] == []
    assert f"| {NO_ANSWER} |" in text


def test_what_answers_follows_from_what_was_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*rows: dict[str, Any], **shown: Any) -> set[str]:
        facts = Facts(run)
        monkeypatch.setitem(facts.__dict__, "rows", list(rows))
        monkeypatch.setitem(facts.__dict__, "shown", {**as_plain(run), **shown})
        return held_by(facts)

    always = {clauses.CLEAN, clauses.RECORDS}
    full = {*always, clauses.ROBUST}
    assert held(a_row(run, attack="pgd(steps=3)")) == {*full, clauses.WHITE_BOX}
    # noise is no attacker, no budget is no attack, and an attack on another model says nothing of a defence
    assert held(a_row(run, attack="uniform-noise")) == always
    assert held(a_row(run, attack="pgd", eps=0.0)) == always
    assert held(a_row(run, attack="pgd", ignores_defense=True)) == always
    assert held(a_row(run, attack="square")) == {*full, clauses.BLACK_BOX}
    assert held(a_row(run, attack="square", access="scores")) == {*full, clauses.BLACK_BOX}
    assert held(a_row(run, attack="pgd(surrogate=zoo:x)")) == {*full, clauses.TRANSFERRED}
    assert held(a_row(run, attack="patch", threat="patch 4")) >= {clauses.PATCH}
    assert clauses.CERTIFIED in held(a_row(run), brackets=[{"certificates": ["crown"]}])
    assert clauses.CERTIFIED not in held(a_row(run), brackets=[{"certificates": []}])
    assert {clauses.VERDICTS, clauses.CORRUPTED} <= held(a_row(run), verdicts=[{}], corruptions=[{}])


def test_a_number_that_is_not_adaptive_is_not_called_robustness(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, row = Facts(run), a_row(run, attack="pgd(surrogate=zoo:x)", ignores_defense=True)
    monkeypatch.setitem(facts.__dict__, "rows", [row])
    monkeypatch.setitem(facts.__dict__, "worst", [])
    read = yaml.safe_load(front_matter(_card(facts, row["model"])))
    (_, metric) = read["model-index"][0]["results"][0]["metrics"]
    assert metric["type"] == "not_broken_not_adaptive"
    assert metric["name"].startswith("Not broken, not adaptive (")


def test_every_clause_says_its_text_and_date_and_what_stays_open() -> None:
    for one in CLAUSES:
        assert re.search(r"20\d\d", one.date), one
        assert one.open and one.about and one.answers
    assert {one.text for one in CLAUSES} >= {
        "ISO/IEC TR 24029-1:2021", "ISO/IEC 24029-2:2023", "NIST AI 100-2 E2025", "MITRE ATLAS",
    }  # fmt: skip
    assert all("release" in one.date for one in CLAUSES if one.text == "MITRE ATLAS")
    assert all(re.match(r"AML\.T\d{4}(\.\d{3})? ", one.clause) for one in CLAUSES if one.text == "MITRE ATLAS")


def test_places(run: Run, tmp_path: Path) -> None:
    for _ in range(2):  # inside the run directory it is drawn anew
        assert export_run(run, "json") == [str(run.path / "exports" / "results.json")]
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    with pytest.raises(BadInput, match=r"taken\.json is there already.*--force"):
        export_run(run, "json", taken)
    assert taken.read_text() == "mine"
    export_run(run, "json", taken, force=True)
    assert json.loads(taken.read_text())["study"] == STUDY
    with pytest.raises(BadInput, match=r"'jsn'\. Did you mean 'json'"):
        export_run(run, "jsn")
    with pytest.raises(BadInput, match="writes into no file"):
        export_run(run, "mlflow", tmp_path / "x")


def test_what_is_made_of_a_run_in_a_store_lies_here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    far = dataclasses.replace(run, far="s3://bucket/run")
    assert export_run(far, "csv") == ["exports/results.csv"]
    with pytest.raises(BadInput, match="is there already"):
        export_run(far, "csv")
    assert len({Facts(one).identity for one in (run, far, dataclasses.replace(run, far="s3://other/run"))}) == 3


@pytest.mark.parametrize(("to", "called"), [("mlflow", "MLflow"), ("wandb", "wandb")])
def test_a_missing_library_is_named(run: Run, to: str, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.exports.extras.find_spec", lambda name: None)
    said = f"{called} is not installed. Install it with: pip install 'assay[{to}]'"
    with pytest.raises(BadInput, match=re.escape(said)):
        export_run(run, to)


def test_numbers_that_are_none_become_none() -> None:
    assert finite({"a": [float("nan"), (1.5, float("inf"))], "b": "x"}) == {"a": [None, [1.5, None]], "b": "x"}


def test_an_unfinished_run_says_so_everywhere(run: Run, tmp_path: Path) -> None:
    manifest = {**run.manifest, "status": "cancelled", "not_reportable_because": ["the run is not finished"]}
    cut = dataclasses.replace(run, manifest=manifest)
    for to, name in (("json", "j.json"), ("csv", "c.csv"), ("model-card", "m"), ("croissant", "c"), ("evidence", "e")):
        written = export_run(cut, to, tmp_path / name)
        text = Path(written[0]).read_text(encoding="utf-8")
        assert "not finished" in text or "cancelled" in text, to


def test_a_card_of_no_attack_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Facts(run)
    monkeypatch.setitem(facts.__dict__, "rows", [])
    with pytest.raises(BadInput, match="has no number of an attack, and a model card holds those"):
        write_model_card(facts, tmp_path / "card")
    assert not (tmp_path / "card").exists()


def test_from_python(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    (written,) = assay.Evaluation.open(run.path).export("json", tmp_path / "a.json")
    assert json.loads(Path(written).read_text(encoding="utf-8"))["results"] == shown["results"]
    assert set(EXPORTS) == {"json", "csv", "model-card", "croissant", "evidence", "mlflow", "wandb"}


def test_json_has_the_worst_case_that_cards_and_evidence_cite(run: Run) -> None:
    shown, worst = as_plain(run)["worst_case"], Facts(run).worst
    assert [{name: row[name] for name in one} for one, row in zip(shown, worst, strict=True)] == shown
    assert [one["attack"] for one in shown] == ["worst case over fgsm, pgd(steps=3)"] * 2
    least = {one["eps"]: one["robust_accuracy"] for one in as_plain(run)["results"] if one["attack"] != "fgsm"}
    assert all(one["robust_accuracy"] <= least[one["eps"]] for one in shown)
