"""Corruptions in a study: what is measured, what it is called, and numbers that are known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import assay
from assay.core.errors import BadInput
from assay.data.corruption import PHOTOS, SEVERITIES, VERSION, corrupted_image
from assay.data.corruption import Corruption as Drawn
from assay.evaluation.analysis.corruptions import ALEXNET, ALEXNET_CLEAN, CorruptionResult, CorruptionTable
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.run_study import Options, run_study
from assay.evaluation.study.spec import Study
from assay.statistics import wilson

STUDY: dict[str, Any] = {
    "study": "corrupted", "models": "zoo:mnist-cnn", "data": {"source": "mnist/test", "limit": 12},
    "corruptions": ["translate", "canny-edges"],
}  # fmt: skip


def study(**changes: Any) -> Study:
    return Study.of({**STUDY, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_study(study(), tmp_path_factory.mktemp("run"))


def test_a_study_reads_and_writes_corruptions() -> None:
    for written, kinds, severities in (
        ("all", ("all",), None),
        ("fog, snow", ("fog", "snow"), None),
        ({"kinds": ["Gaussian_Noise"], "severities": "1-3,5"}, ("gaussian-noise",), (1, 2, 3, 5)),
        ({"severities": 4}, ("standard",), (4,)),
    ):
        read = study(corruptions=written)
        (grid,) = read.grids
        assert grid.corruptions is not None
        assert (grid.corruptions.kinds, grid.corruptions.severities) == (kinds, severities)
        assert not grid.attacked
        assert Study.of(read.plain()) == read
        assert "attacks" not in read.plain()["grids"][0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corruptions": ["fog", "snov"]}, "Unknown corruption 'snov'. Did you mean 'snow'"),
        ({"corruptions": "standart"}, "Did you mean 'standard'"),
        ({"corruptions": ["all", "fog"]}, "all stands for a list itself"),
        ({"corruptions": {"severities": "0-3"}}, "severity is 0, expected 1 to 5"),
        ({"corruptions": {"severities": 6}}, "severity is 6, expected 1 to 5"),
        ({"corruptions": {"severities": "mild"}}, "'mild' are no severities"),
        ({"corruptions": {"kind": "fog"}}, "Unknown key 'kind'. Did you mean 'kinds'"),
        ({"corruptions": "fog", "attacks": "fgsm"}, "threats: is missing"),
        ({"corruptions": None}, "threats: is missing"),
        ({"corruptions": None, "attacks": "none", "threats": {"norm": "linf", "eps": 0.1}}, "none is no attack"),
    ],
)
def test_slips_in_a_study(changes: Mapping[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        study(**changes)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("corruptions", "told"),
    [
        ("snow", "snow is no corruption of MNIST-C"),
        ({"kinds": "zigzag", "severities": 3}, "none of zigzag at severity 3"),
    ],
)
def test_corruptions_that_the_data_do_not_have(corruptions: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_plan(study(corruptions=corruptions), Loader())


def test_cells_are_the_data_and_their_corruptions_unattacked() -> None:
    plan = make_plan(study(corruptions={"kinds": "standard", "severities": "1-2"}), Loader())
    told = [(cell.data.source, cell.attack.attack, cell.question) for cell in plan.cells]
    assert told[0] == ("mnist/test", "none", "as_attacked")
    # two severities of eleven kinds, and one of those that have no more
    assert len(told) == 1 + 2 * 11 + 4
    assert len({cell.fingerprint for cell in plan.cells}) == len(plan.cells)
    assert len({cell.ids_digest for cell in plan.cells}) == 1


def test_attacks_beside_corruptions_are_the_cells_they_were() -> None:
    attacked = {"attacks": "fgsm", "threats": {"norm": "linf", "eps": 0.1}}
    alone = make_plan(study(corruptions=None, **attacked), Loader()).cells
    both = make_plan(study(**attacked), Loader()).cells
    assert alone[0].digest in {cell.digest for cell in both}
    assert len(both) == 1 + 3


def test_counted_as_by_hand(done: Run) -> None:
    (table,) = done.corruptions()
    model, data = assay.load_model("zoo:mnist-cnn"), assay.load_data("mnist/test", limit=12)
    assert [(one.corruption, one.severity) for one in table.results] == [("translate", 3), ("canny-edges", 1)]
    for one in (table.clean, *table.results):
        assert one is not None
        drawn = Drawn(one.corruption or "fog", one.severity)
        images = torch.stack([corrupted_image(data.read(at), data.ids[at], drawn) for at in range(12)])
        with model.held(), torch.no_grad():
            right = int((model.module(images).argmax(1) == torch.tensor(data.labels)).sum())
        assert one.accuracy == right / 12
        assert (one.low, one.high) == wilson(right, 12)
        assert one.errors == 0
    assert table.mean(table.standard) == sum(one.accuracy for one in table.results) / 2


def test_one_pass_per_image_no_verdict_and_no_result_of_an_attack(done: Run) -> None:
    assert done.results() == done.worst_case() == done.verdicts() == []
    assert [one.forwards for one in done.unattacked()] == [12] * 3
    assert done.manifest["not_reportable_because"] == [
        "only the first 12 samples of mnist/test (limit)", "12 images in mnist/test: too few to report",
    ]  # fmt: skip


def test_workers_an_order_and_a_second_half_later_change_nothing(done: Run, tmp_path: Path) -> None:
    def records(run: Run) -> list[dict[str, Any]]:
        names = ["data", "sample_id", "status", "prediction", "image_digest"]
        return sorted(run.records(names).to_pylist(), key=lambda row: (row["data"], row["sample_id"]))

    # the other order, the first of the two alone, then both, by another process
    run_study(study(corruptions="canny-edges", chunk=5), tmp_path, Options(executor="serial"))
    stamp = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.parquet")}
    whole = run_study(
        study(corruptions="canny-edges,translate", chunk=5), tmp_path, Options(executor="processes", workers=1)
    )
    assert stamp
    assert all(path.stat().st_mtime_ns == when for path, when in stamp.items())
    assert records(whole) == records(done)


def test_labels_predicted_by_the_model_count_the_answers_it_keeps(tmp_path: Path) -> None:
    data = {"source": "mnist/test", "limit": 12, "labels": "predicted"}
    (table,) = run_study(study(data=data, corruptions="translate"), tmp_path).corruptions()
    # a model agrees with itself: that is no accuracy
    assert table.clean is None
    assert 0 < table.results[0].accuracy < 1


def result(kind: str, severity: int, accuracy: float) -> CorruptionResult:
    return CorruptionResult("c", "m", "d", kind, severity, 1000, accuracy, accuracy, accuracy, 0)


def table_of(accuracy: Mapping[str, float], clean: float = 1 - ALEXNET_CLEAN, **changes: Any) -> CorruptionTable:
    rows = tuple(result(kind, severity, share) for kind, share in accuracy.items() for severity in SEVERITIES)
    return CorruptionTable(**{  # type: ignore[arg-type]  # as the test made it
        "model": "m", "data": "d", "corruptions": PHOTOS, "clean": result("", 0, clean), "results": rows,
        "imagenet": True, **changes,
    })  # fmt: skip


def test_alexnet_has_an_mce_of_100() -> None:
    # named backwards: errors belong to names and not to places
    table = table_of({kind: 1 - ALEXNET[kind] for kind in reversed(ALEXNET)})
    assert table.mean_error == pytest.approx(100)
    assert table.relative_mean_error == pytest.approx(100)
    assert all(table.error(kind) == pytest.approx(100) for kind in ALEXNET)
    perfect = table_of(dict.fromkeys(ALEXNET, 1.0), clean=1.0)
    assert (perfect.mean_error, perfect.relative_mean_error) == (0, 0)


def test_one_severity_less_one_corruption_less_or_other_labels_have_no_mce() -> None:
    shares = {kind: 1 - ALEXNET[kind] for kind in ALEXNET}
    whole = table_of(shares)
    lacking = table_of(shares, results=whole.results[1:])
    assert lacking.error("gaussian-noise") != lacking.error("gaussian-noise")  # NaN
    assert lacking.error("fog") == pytest.approx(100)
    for table in (lacking, table_of({"fog": 0.5}), table_of(shares, imagenet=False)):
        assert table.mean_error != table.mean_error


def test_validation_corruptions_are_in_no_mean_over_the_fifteen() -> None:
    table = table_of({**dict.fromkeys(ALEXNET, 0.5), **dict.fromkeys(("spatter", "saturate"), 1.0)})
    assert table.mean(table.standard) == 0.5
    assert table.mean(table.validation) == 1
    assert (len(table.standard), table.validation) == (15, ("spatter", "saturate"))


def test_the_fingerprint_names_the_version_of_what_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    before = assay.load_data("mnist/test|fog:severity=3", limit=2).fingerprint
    monkeypatch.setattr("assay.data.corruption.VERSION", VERSION + 1)
    assert assay.load_data("mnist/test|fog:severity=3", limit=2).fingerprint != before


def test_an_export_of_adversarial_images_says_that_there_are_none(done: Run, tmp_path: Path) -> None:
    from assay.evaluation.export.images import Choice, export_images

    with pytest.raises(BadInput, match="corrupted data alone"):
        export_images(done, tmp_path / "out", Choice("png"))


def test_python_says_the_same_as_a_study(done: Run, tmp_path: Path) -> None:
    images = assay.load_data("mnist/test", limit=12)
    found = assay.corrupt(
        "zoo:mnist-cnn", images, ["translate", "canny-edges"], out=tmp_path / "run", display="none", doctor=False
    )
    ours, theirs = found.corruptions()[0], done.corruptions()[0]
    assert [(one.corruption, one.accuracy) for one in ours.results] == [
        (one.corruption, one.accuracy) for one in theirs.results
    ]
    assert found.results() == []
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "success"


def test_images_in_memory_are_corrupted_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    images = torch.rand(6, 3, 32, 32), torch.arange(6) % 4
    found = assay.corrupt(model, images, "contrast", severities=[1, 5], out=tmp_path, display="none", doctor=False)
    (table,) = found.corruptions()
    assert [one.severity for one in table.results] == [1, 5]
    assert table.mean_error != table.mean_error
