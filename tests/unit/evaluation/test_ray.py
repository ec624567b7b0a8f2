"""What the executor decides by itself; tests/scale asks a real cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assay.core.errors import BadInput
from assay.evaluation.execution.options import Options
from assay.evaluation.executors import Job, Serial, node
from assay.evaluation.executors import ray as subject
from assay.evaluation.executors.ray import Ray
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.records.manifest import version_of
from assay.evaluation.records.store import from_bytes
from tests.support.tiny import study, write_model


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"Ray is not installed\. Install it with: pip install 'assay\[ray\]'"):
        Options(executor="ray").engine()


def test_an_address_is_for_ray_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="address is 'auto', which executor='ray' alone takes"):
        Options(executor="processes", address="auto").engine()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert Options(executor="ray", address="auto", workers=3).engine() == Ray(3, "auto")


def test_each_worker_gets_a_gpu_of_its_own() -> None:
    assert [subject._on_gpu(device) for device in (None, "cpu", "cuda", "cuda:0")] == [False, False, True, True]
    with pytest.raises(BadInput, match="device is 'cuda:1', expected 'cuda'"):
        subject._on_gpu("cuda:1")


def test_what_an_endpoint_answers_is_kept_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = tmp_path / "shared-1"
    shared = {"folder": str(tmp_path), "nonce": str(nonce), "machine": node.machine()}
    assert node._not_shared(None) == ""
    assert "is not shared here" in node._not_shared(shared)
    nonce.write_text("of another run")
    assert "is not shared here" in node._not_shared(shared)
    nonce.write_text(nonce.name)
    assert node._not_shared(shared) == ""
    monkeypatch.setattr(node, "machine", lambda: "another")
    assert "another machine" in node._not_shared(shared) and "--executor processes" in node._not_shared(shared)


def test_another_release_on_a_node_is_said(tiny_model: str, tiny_source: str) -> None:
    (cell, *_) = make_plan(study(tiny_model, tiny_source), Loader()).cells
    here = {"release": version_of("assay")}
    assert node._other_release(here, {cell.digest: cell}) == ""
    assert "(0.0). Install the same" in node._other_release({"release": "0.0"}, {cell.digest: cell})
    # an attack whose version was raised, say
    assert "Install the same" in node._other_release(here, {"another": cell})


def test_a_node_does_units_by_their_names(tiny_model: str, tiny_source: str, tmp_path: Path) -> None:
    loader = Loader()
    units = make_plan(study(tiny_model, tiny_source, attacks="fgsm"), loader).units
    told, nonce = node.told_to_nodes(units, Job(tmp_path, loader))
    worker = node.Worker()
    assert nonce is None and "stop" not in worker.setup(told)
    answer = worker.do(units[0].cell.digest, 0)
    assert answer["done"]["errors"] == 0
    assert rows_of(from_bytes(answer["records"])) == rows_of(
        next(iter(Serial().run(units, Job(tmp_path, loader)))).records
    )
    told["release"] = "0.0"
    assert worker.setup(told)["kind"] == [BadInput.__module__, "BadInput"]


def test_the_log_has_what_was_printed_on_a_node(tiny_source: str, tmp_path: Path) -> None:
    loader = Loader()
    model = write_model(tmp_path / "model", "print('from the model')")
    units = make_plan(study(model, tiny_source, attacks="fgsm"), loader).units
    worker = node.Worker()
    worker.setup(node.told_to_nodes(units, Job(tmp_path, loader))[0])
    assert "from the model\n" in worker.do(units[0].cell.digest, 0)["printed"]


def test_the_file_that_shows_a_shared_directory(tiny_model: str, tiny_source: str, tmp_path: Path) -> None:
    units = make_plan(study(tiny_model, tiny_source, attacks="fgsm"), Loader()).units
    told, nonce = node.told_to_nodes(units, Job(tmp_path, Loader(), endpoints=True))
    assert nonce is not None and nonce.exists() and "stop" not in node.Worker().setup(told)
    nonce.unlink()
    assert "is not shared here" in node.Worker().setup(told)["stop"]


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    return list(table.drop_columns(["seconds"]).to_pylist())


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("The actor died.\n Worker exit type: SYSTEM_ERROR Worker exit detail: …", "SYSTEM_ERROR; out of memory?"),
        ("The actor is dead because its node has died. Node Id: 12", "its node died"),
        ("one\n  line ", "one line"),
    ],
)
def test_many_lines_of_a_death_become_one(text: str, short: str) -> None:
    assert subject._in_line(RuntimeError(text)) == short
