"""Exports read back by the libraries that they are for, and compared with `assay show --json` number by number."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import assay
from assay.core.errors import BadInput
from assay.evaluation.run import Run
from assay.exports.facts import Facts
from assay.exports.table import export_run
from assay.report.numbers import as_plain
from tests.support.hostile_run import STUDY, Brightest, hostile_run

pytestmark = [
    pytest.mark.targets,
    # what these libraries use of others, and files that they leave to the collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def shown(run: Run) -> dict[str, Any]:
    return json.loads(json.dumps(as_plain(run), allow_nan=False))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's usual kind of store: a data base in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def logged(kind: str) -> list[dict[str, Any]]:
    import mlflow

    found = mlflow.search_runs(experiment_names=["assay"], filter_string=f"tags.`assay.kind` = '{kind}'")
    return [{name: value for name, value in row.items() if value == value} for row in found.to_dict("records")]


def same_as_shown(rows: list[dict[str, Any]], shown: dict[str, Any]) -> None:
    by_row = {(row["params.cell"], row["metrics.eps"]): row for row in rows}
    assert len(by_row) == len(rows) == len(shown["results"])
    for one in shown["results"]:
        row = by_row[one["cell"], one["eps"]]
        assert row["status"] == "FINISHED"
        for name, value in one.items():
            if value is None:
                assert f"metrics.{name}" not in row and row.get(f"tags.{name}", "") in ("", None)
            elif f"metrics.{name}" in row:
                assert row[f"metrics.{name}"] == value
            else:
                assert row.get(f"params.{name}", row.get(f"tags.{name}")) == str(value)


def test_mlflow(run: Run, shown: dict[str, Any], store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow

    (said,) = export_run(run, "mlflow")
    assert said.startswith(f"sqlite:///{store}/mlflow.db") and capfd.readouterr().err == ""
    same_as_shown(logged("row"), shown)
    (parent,) = logged("run")
    assert parent["tags.assay.study"] == STUDY and parent["tags.assay.reportable"] == "False"
    assert "too few to report" in parent["tags.assay.not_reportable_because"]
    assert {row["tags.mlflow.parentRunId"] for row in logged("row")} == {parent["run_id"]}
    file = mlflow.artifacts.download_artifacts(run_id=parent["run_id"], artifact_path="assay.json")
    read = json.loads(Path(file).read_text(encoding="utf-8"))
    assert {name: read[name] for name in shown} == shown
    # an export again changes what is there, and adds nothing
    assert export_run(run, "mlflow") == [said]
    same_as_shown(logged("row"), shown)
    assert len(logged("run")) == 1


def test_a_run_that_mlflow_follows(store: Path, tmp_path: Path) -> None:
    import mlflow

    x = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        data = TensorDataset(x, Brightest()(x).argmax(1))
    how: dict[str, Any] = {"audit": "off", "doctor": False, "track": "mlflow", "chunk": 6}

    def stop(now: Any) -> None:
        if now.units == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assay.evaluate(Brightest(), data, ["fgsm", "bim"], assay.Linf("8/255"), tmp_path / "r", on_progress=stop, **how)
    (parent,) = logged("run")
    assert parent["status"] == "KILLED" and parent["metrics.progress/records"] == 12
    # the same call goes on, in the same run of MLflow
    found = assay.evaluate(Brightest(), data, ["fgsm", "bim"], assay.Linf("8/255"), tmp_path / "r", **how)
    (ended,) = logged("run")
    assert (ended["run_id"], ended["status"]) == (parent["run_id"], "FINISHED")
    told = mlflow.MlflowClient().get_metric_history(ended["run_id"], "progress/records")
    assert [(one.step, one.value) for one in told] == [(2, 12), (4, 24)]
    same_as_shown(logged("row"), json.loads(json.dumps(as_plain(found.run))))


def test_a_server_that_is_not_there_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        data = TensorDataset(x, Brightest()(x).argmax(1))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = assay.evaluate(
            Brightest(), data, ["fgsm"], assay.Linf("8/255"), tmp_path / "r", audit="off", doctor=False, track="mlflow"
        )
    assert found.run.status == "success"
    (said,) = [str(one.message) for one in warned if one.category is assay.AssayWarning]
    assert said.startswith("mlflow could not be told of this run") and "secret" not in said


@pytest.mark.parametrize("uri", ["http://me:secret@127.0.0.1:9", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_told_in_words(run: Run, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadInput, match=r"MLflow could not take the numbers \(.*MLFLOW_TRACKING_URI says where") as told:
        export_run(run, "mlflow")
    assert "secret" not in str(told.value) and told.value.__cause__ is None


def records_of(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file: a log of blocks of 32 kB, each part with its checksum, length and kind.

    wandb has had no reader of its own for it since 0.31; the records are read by its protocol buffers.
    """
    from wandb.proto import wandb_internal_pb2

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            yield record
            part = b""


def test_wandb(run: Run, shown: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # whatever the user's shell says of other runs, an export stays here
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    (written,) = export_run(run, "wandb", tmp_path / "w")
    assert Path(written).is_relative_to(tmp_path / "w") and Path(written).name.startswith("offline-run-")
    (file,) = Path(written).glob("*.wandb")
    steps, config = [], {}
    for record in records_of(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = record.history.item
            steps.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
        elif kind == "run":
            config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
    assert config["assay"]["study"] == STUDY and config["assay"]["reportable"] is False
    assert len(steps) == len(shown["results"]) + 1
    for step, one in zip(steps, shown["results"], strict=False):
        assert {name: step[name] for name in one} == one
    (table,) = Path(written).rglob("*.table.json")
    read = json.loads(table.read_text(encoding="utf-8"))
    rows = [dict(zip(read["columns"], row, strict=True)) for row in read["data"]]
    assert [{name: row[name] for name in shown["results"][0]} for row in rows] == shown["results"]


def test_model_card(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    from huggingface_hub import EvalResult, ModelCard

    (written,) = export_run(run, "model-card", tmp_path / "card")
    card = ModelCard.load(written)
    assert card.data.model_name == shown["results"][0]["model"]
    results = card.data.eval_results
    assert all(isinstance(one, EvalResult) for one in results)
    clean, *robust = results
    assert (clean.metric_type, clean.metric_value) == ("accuracy", shown["results"][0]["clean_accuracy"])
    for one, row in zip(robust, [*shown["results"], *shown["worst_case"]], strict=True):
        assert (one.task_type, one.dataset_name) == ("image-classification", row["data"])
        assert one.metric_value == row["robust_accuracy"]
        for name in ("attack", "threat", "eps", "n", "robust_low", "robust_high", "seed", "wording"):
            assert one.metric_args[name] == row[name]
    # what it writes again is what it has read
    card.save(tmp_path / "again.md")
    assert ModelCard.load(tmp_path / "again.md").data.to_dict() == card.data.to_dict()


def test_croissant(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    import mlcroissant

    written = export_run(run, "croissant", tmp_path / "c")
    data = mlcroissant.Dataset(written[0])
    issues = data.metadata.ctx.issues
    assert not issues.errors
    assert {one.partition('"')[2].rpartition('"')[0].rpartition("/")[2] for one in issues.warnings} == {
        "citeAs",
        "license",
    }

    def read(name: str) -> list[dict[str, Any]]:
        rows = [{key.partition("/")[2]: value for key, value in row.items()} for row in data.records(name)]
        return [
            {key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()} for row in rows
        ]

    assert [{name: row[name] for name in shown["results"][0]} for row in read("results")] == shown["results"]
    records = run.records().to_pylist()
    mine = read("records")
    assert len(mine) == len(records)
    for row, record in zip(mine, records, strict=True):
        assert row == record


def test_csv_by_pandas_and_json(run: Run, shown: dict[str, Any], tmp_path: Path) -> None:
    import pandas

    (written,) = export_run(run, "csv", tmp_path / "r.csv")
    read = pandas.read_csv(written, float_precision="round_trip", keep_default_na=False, na_values=["", "nan"])
    for (_, row), one in zip(read.iterrows(), shown["results"], strict=True):
        assert row["study"] == STUDY
        for name, value in one.items():
            assert pandas.isna(row[name]) if value is None else row[name] == value


def test_all_rows_are_there(run: Run, shown: dict[str, Any]) -> None:
    assert [{name: row[name] for name in one} for row, one in zip(Facts(run).rows, shown["results"], strict=True)] == (
        shown["results"]
    )
