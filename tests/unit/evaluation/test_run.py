from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
import pytest
import torch
from torch import nn

import assay
from assay.attacks.gradient import PGD
from assay.core.compose import Restarts
from assay.core.errors import BadInput
from assay.core.threat import Linf
from assay.data import PictureError
from assay.evaluation.execution.progress import Progress
from assay.evaluation.records.manifest import read_manifest
from assay.evaluation.records.store import Store
from assay.evaluation.run_study import Options, Run, RunFailed, run_study
from tests.support.tiny import (
    data,
    evaluate,
    images,
    patterns,
    rows,
    run_here,
    study,
    write_model,
    write_pictures,
)


class Matcher(nn.Module):
    """The tiny model as a module of this process; `trouble` may do something to the images or the logits."""

    def __init__(self, trouble: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits) -> None:
        super().__init__()
        self.weight = nn.Parameter((patterns() - patterns().mean(0)).flatten(1))
        self.drop = nn.Dropout(0.5)
        self.trouble = trouble
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.trouble(self.drop(x.flatten(1)) @ self.weight.T * 2)


LINF = {"norm": "linf", "eps": ["4/255", "16/255"]}


def test_a_run_leaves_records_manifest_and_study(tiny_model: str, tiny_source: str, out: Path) -> None:
    given = study(tiny_model, tiny_source)
    run = run_here(out, given)
    assert run.status == "success" and run.study == "tiny" and run.spec() == given
    assert len(run.cells) == 2 and run.records().num_rows == 2 * 30 * 4
    assert run.manifest["models"][tiny_model]["digest"] and run.manifest["data"][tiny_source]["n"] == 30
    assert torch.__version__.startswith(run.manifest["environment"]["torch"]) and run.manifest["command"]
    alone = pyarrow.dataset.dataset(out / "results").to_table()
    assert alone.num_rows == 240 and {"sample_id", "status"} <= set(alone.column_names)
    assert pyarrow.parquet.read_table(out / "results").num_rows == 240
    found = {(one.attack, one.eps_written): one for one in run.results()}
    assert found["fgsm", "0"].robust_accuracy == found["fgsm", "0"].clean_accuracy > 0.8
    assert found["pgd(steps=4)", "64/255"].robust_accuracy < found["pgd(steps=4)", "4/255"].robust_accuracy
    assert Run.open(out).results() == run.results()


def test_a_run_is_told_in_a_line(tiny_model: str, tiny_source: str, out: Path) -> None:
    assert repr(run_here(out, study(tiny_model, tiny_source))) == f"Run(path={out!r}, study='tiny', far='')"


def test_a_finished_study_is_left_alone(tiny_model: str, tiny_source: str, out: Path) -> None:
    given = study(tiny_model, tiny_source)
    run_here(out, given)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    run = run_here(out, given)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert before == after and run.status == "success"


def test_an_added_cell_runs_alone(tiny_model: str, tiny_source: str, out: Path) -> None:
    run_here(out, study(tiny_model, tiny_source))
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    seen: list[Progress] = []
    more = study(tiny_model, tiny_source, attacks=["fgsm", {"attack": "pgd", "steps": 4}, "bim"])
    run = run_study(more, out, on_progress=seen.append)
    assert [(one.units, one.units_planned) for one in seen] == [(8 + i, 12) for i in range(5)]
    assert {path: path.stat().st_mtime_ns for path in shards} == shards and len(run.cells) == 3


def test_a_cell_that_leaves_the_study_rests_and_comes_back(tiny_model: str, tiny_source: str, out: Path) -> None:
    whole = run_here(out, study(tiny_model, tiny_source))
    less = run_here(out, study(tiny_model, tiny_source, attacks="fgsm"))
    assert len(less.cells) == 1 and less.records().num_rows == 120 and "retired" in less.manifest["warnings"][-1]
    assert pyarrow.dataset.dataset(out / "results").to_table().num_rows == 120
    seen: list[Progress] = []
    again = run_study(study(tiny_model, tiny_source), out, on_progress=seen.append)
    assert seen[0].units == seen[0].units_planned and rows(again, ()) == rows(whole, ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"seed": 3},
            "another study (seed 3 here, seed 0 there). Use another --out, or --fork to start from its finished",
        ),
        ({"study": "other"}, "belongs to another study (study 'other' here, study 'tiny' there)"),
        ({"threats": {"norm": "linf", "eps": 0.5}}, "(eps 0.5 here, eps 0 4/255 16/255 64/255 there)"),
    ],
)
def test_another_study_is_refused(
    tiny_model: str, tiny_source: str, out: Path, changes: dict[str, Any], said: str
) -> None:
    run_here(out, study(tiny_model, tiny_source))
    before = read_manifest(out)
    with pytest.raises(BadInput) as caught:
        run_here(out, study(tiny_model, tiny_source, **changes))
    assert said in str(caught.value) and read_manifest(out) == before


def test_a_fork_starts_from_the_shared_cells(tiny_model: str, tiny_source: str, out: Path) -> None:
    first = run_here(out, study(tiny_model, tiny_source))
    seen: list[Progress] = []
    other = study(tiny_model, tiny_source, study="other", attacks=["fgsm", "bim"])
    forked = run_study(other, out, Options(fork=True), on_progress=seen.append)
    assert forked.path == out.with_name("tiny-2") and seen[0].units == 4
    assert "Forked" in forked.manifest["warnings"][0] and Run.open(out).records().equals(first.records())
    assert run_study(other, out, Options(fork=True)).path == forked.path


def test_a_directory_with_other_files_is_refused(tiny_model: str, tiny_source: str, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match=r"holds other files \(thesis\.tex\)"):
        run_here(out, study(tiny_model, tiny_source))
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_changed_weights_are_another_cell(tmp_path: Path, tiny_source: str, out: Path) -> None:
    spec = write_model(tmp_path / "model")
    run_here(out, study(spec, tiny_source))
    path = tmp_path / "model" / "tiny_model.py"
    path.write_text(path.read_text().replace("manual_seed(0)", "manual_seed(9)"))
    with pytest.raises(BadInput, match=r"weights [0-9a-f]{32} here, weights [0-9a-f]{32} there"):
        run_here(out, study(spec, tiny_source))


def test_a_damaged_shard_is_put_aside_and_run_again(tiny_model: str, tiny_source: str, out: Path) -> None:
    whole = rows(run_here(out, study(tiny_model, tiny_source)))
    shards = sorted(out.rglob("*.parquet"))
    shards[0].write_bytes(shards[0].read_bytes()[:-100])
    shards[3].write_bytes(b"")
    shards[5].unlink()
    seen: list[Progress] = []
    run = run_study(study(tiny_model, tiny_source), out, on_progress=seen.append)
    assert seen[0].units == 8 - 3 and rows(run) == whole
    assert sum("is cut off or damaged" in warning for warning in run.manifest["warnings"]) == 2
    assert len(list((out / "damaged").iterdir())) == 2


def test_what_a_killed_writer_left_is_removed(tiny_model: str, tiny_source: str, out: Path) -> None:
    run_here(out, study(tiny_model, tiny_source))
    left = next(out.rglob("*.parquet")).with_name(".writing-1-part-00001.parquet")
    left.write_bytes(b"half")
    run_here(out, study(tiny_model, tiny_source))
    assert not left.exists()


def test_numbers_that_may_not_be_reported_say_why(tiny_model: str, tmp_path: Path) -> None:
    many = write_pictures(tmp_path / "many", 120)
    cases: list[tuple[Any, list[str]]] = [
        (many, []),
        ({"source": many, "sample": 104}, []),
        ({"source": many, "limit": 104}, [f"only the first 104 samples of {many} (limit)"]),
        ({"source": many, "sample": 20}, [f"20 images in {many}: too few to report"]),
        ({"source": many, "sample": 1}, [f"1 image in {many}: too few to report"]),
    ]
    for at, (source, because) in enumerate(cases):
        run = run_here(tmp_path / f"run{at}", study(tiny_model, source, attacks="fgsm", chunk=60))
        assert (run.manifest["not_reportable_because"], run.reportable) == (because, not because)


def test_unreadable_pictures_are_error_records_and_the_run_goes_on(out: Path) -> None:
    pixels, _ = images(20)

    def read(at: int) -> torch.Tensor:
        if at in (2, 11):
            raise PictureError(f"picture {at} is cut off")
        return pixels[at]

    run = evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out, chunk=8)
    wrong = [row for row in rows(run) if row["status"] == "error"]
    assert [row["error"] for row in wrong] == ["picture 2 is cut off", "picture 11 is cut off"]
    assert all(row["prediction"] is None and row["forwards"] == 0 for row in wrong)
    (result,) = run.results()
    assert (result.n, result.errors, run.status) == (18, 2, "success")
    assert run.manifest["not_reportable_because"][-1].startswith("2 records are errors")
    with pytest.raises(RunFailed, match=r"1 samples could not be evaluated.*picture 2 is cut off"):
        evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out.with_name("b"), chunk=8, fail_on_error=True)
    evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out.with_name("c"), chunk=8, fail_on_error=0.1)
    with pytest.raises(RunFailed, match="fail_on_error allows 1"):
        evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out.with_name("d"), chunk=8, fail_on_error=1.0)
    assert Run.open(out.with_name("d")).status == "error"
    with pytest.raises(RunFailed, match="3 samples could not be evaluated"):
        again = {"attacks": ["fgsm", "bim"], "threat": Linf("16/255"), "out": out.with_name("c")}
        evaluate(Matcher(), data(20, read), **again, chunk=8, fail_on_error=2)


def test_errors_are_tried_again_when_asked(out: Path) -> None:
    broken = [True]
    pixels, _ = images(20)

    def read(at: int) -> torch.Tensor:
        if at == 2 and broken[0]:
            raise PictureError("cut off")
        return pixels[at]

    assert evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out, chunk=8).results()[0].errors == 1
    broken[0] = False
    assert evaluate(Matcher(), data(20, read), "fgsm", Linf("16/255"), out, chunk=8).results()[0].errors == 1
    seen: list[Progress] = []
    again = evaluate(
        Matcher(), data(20, read), "fgsm", Linf("16/255"), out, chunk=8, retry_errors=True, on_progress=seen.append
    )
    assert again.results()[0].errors == 0 and seen[0].units == 2


def test_a_model_that_fails_at_once_ends_the_run(out: Path) -> None:
    def fail(logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such layer")

    with pytest.raises(RunFailed, match=r"before any of its samples.*RuntimeError: no such layer"):
        evaluate(Matcher(fail), data(20), "fgsm", Linf("16/255"), out, chunk=8)
    assert Run.open(out).status == "error" and Run.open(out).results() == []


def test_a_model_that_fails_later_gives_error_records(out: Path) -> None:
    model = Matcher()

    def fail(logits: torch.Tensor) -> torch.Tensor:
        if len(logits) == 4:
            raise RuntimeError("the last chunk is short")
        return logits

    model.trouble = fail
    run = evaluate(model, data(20), "fgsm", Linf("16/255"), out, chunk=8)
    (result,) = run.results()
    assert (result.n, result.errors, run.status) == (16, 4, "success")
    assert all("the last chunk is short" in row["error"] for row in rows(run) if row["status"] == "error")
    log = (out / "log").read_text()
    assert "Traceback" in log and "became error records" in log and "ended: success" in log


def test_scores_that_are_no_numbers_are_error_records(out: Path) -> None:
    model = Matcher()

    def nan(logits: torch.Tensor) -> torch.Tensor:
        return torch.where(logits.argmax(1, keepdim=True) == 1, torch.nan, logits)

    model.trouble = nan
    run = evaluate(model, data(20), ["fgsm", PGD(steps=3)], [Linf("0"), Linf("64/255")], out, chunk=8)
    told = [row["error"] for row in rows(run) if row["status"] == "error"]
    assert "The model returned NaN or infinite scores for the image itself." in told
    assert "The model returned NaN or infinite scores for the attacked image." in told
    for result in run.results():
        assert result.n + result.errors == 20 and result.errors > 0


def test_probabilities_are_refused_with_the_fix(out: Path) -> None:
    with pytest.raises(BadInput, match=r"returns probabilities .*--outputs probabilities"):
        evaluate(Matcher(lambda logits: logits.softmax(1)), data(8), "fgsm", Linf("16/255"), out)
    model = assay.load_model(Matcher(lambda logits: logits.softmax(1)), outputs="probabilities")
    run = evaluate(model, data(8), "fgsm", Linf("16/255"), out)
    assert "(probabilities)" in run.results()[0].model


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": (0, 1, 2, 4)}, "has label 4, but the model has 4 classes, 0 to 3"),
        (
            {"input_shape": None, "read": lambda at: torch.full((3, 8, 8 + at), 0.5)},
            "'tiny/0001' is 3 x 8 x 9, 'tiny/00",
        ),
        ({"read": lambda at: torch.full((3, 8, 8), 200.0)}, "expected [0, 1]"),
        ({"read": lambda at: torch.full((3, 8, 8), torch.nan)}, "NaN"),
    ],
)
def test_data_that_a_model_cannot_take_end_the_run(out: Path, changes: dict[str, Any], said: str) -> None:
    given = dataclasses.replace(data(4), **changes)
    with pytest.raises(BadInput) as caught:
        evaluate(Matcher(), given, "fgsm", Linf("16/255"), out)
    assert said in str(caught.value)


def test_a_model_from_python_is_left_as_it_was(out: Path) -> None:
    model = Matcher().train()
    model.weight.requires_grad_(True)
    first = evaluate(model, data(12), "pgd", Linf("16/255"), out)
    assert model.training and model.drop.training and model.weight.requires_grad
    second = evaluate(model, data(12), "pgd", Linf("16/255"), out.with_name("b"))
    assert rows(first) == rows(second), "dropout was off"


def test_attacks_and_threats_as_objects_are_those_by_name(out: Path) -> None:
    model = Matcher()
    objects = evaluate(
        model, data(12), [PGD(steps=3), Restarts(PGD(steps=2), 2)], [Linf("4/255"), Linf("16/255")], out, seed=2
    )
    written = [{"attack": "pgd", "steps": 3}, {"attack": "pgd", "steps": 2, "restarts": 2}]
    names = evaluate(model, data(12), written, LINF, out.with_name("b"), seed=2)
    assert [one.attack for one in names.results()][::2] == ["pgd(steps=3)", "pgd(steps=2, restarts=2)"]
    assert rows(objects) == rows(names)


def test_without_a_directory_the_run_is_temporary() -> None:
    run = evaluate(Matcher(), data(4), "fgsm", Linf("16/255"))
    assert run.path.is_dir() and run.status == "success"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"wrokers": 2}, "Unknown setting 'wrokers'. Did you mean 'workers'?"),
        ({"trak": "mlflow"}, "Unknown setting 'trak'. Did you mean 'track'?"),
        ({"executor": "process"}, "Unknown executor 'process'. Did you mean 'processes'?"),
        ({"executor": "processes"}, "exists in this Python process alone"),
        ({"workers": 0}, "workers is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"fail_on_error": -1}, "fail_on_error is -1"),
        ({"question": "best_case"}, "Unknown value 'best_case'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(out: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        evaluate(Matcher(), data(4), "fgsm", Linf("16/255"), out, **settings)
    assert said in str(caught.value)


@pytest.mark.parametrize("eps", [["4/255", "8/255", "8/255"], torch.tensor([0.1, 0.2])])
def test_budgets_that_a_study_cannot_hold_are_refused(out: Path, eps: Any) -> None:
    with pytest.raises(BadInput, match="one number per threat"):
        evaluate(Matcher(), data(4), "fgsm", Linf(eps), out)


def test_normalised_budgets_need_a_known_normalisation(out: Path) -> None:
    with pytest.raises(BadInput, match=r"normalisation of .*Matcher is unknown"):
        evaluate(Matcher(), data(4), "fgsm", Linf("normalized 0.1"), out)


def test_normalised_budgets_are_measured_in_their_unit(out: Path) -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) @ (patterns() - patterns().mean(0)).flatten(1).T

    model = assay.load_model(Flat(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 0.5))
    (result,) = evaluate(model, data(12), "fgsm", Linf("normalized 0.4", box=False), out).results()
    assert result.unit == "normalized" and result.threat == "linf no-box"
    assert result.median_size == pytest.approx(0.4, abs=1e-5)
    assert result.grey_levels == pytest.approx(255 * 0.4 * 1.25 / 3)


def test_a_cancelled_run_says_so_and_continues(tiny_model: str, tiny_source: str, out: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.units == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(tiny_model, tiny_source), out, on_progress=stop)
    stopped = Run.open(out)
    assert stopped.status == "cancelled" and not stopped.reportable and len(list(out.rglob("*.parquet"))) == 3
    assert "the run is not finished (status cancelled)" in stopped.manifest["not_reportable_because"]
    whole = run_here(out, study(tiny_model, tiny_source))
    assert rows(whole) == rows(run_here(out.with_name("b"), study(tiny_model, tiny_source)))


def test_what_the_data_say_is_in_the_manifest(out: Path) -> None:
    given = dataclasses.replace(data(8), notes=("folders are numbered",))
    run = evaluate(Matcher(), given, "fgsm", Linf("16/255"), out)
    assert run.manifest["warnings"] == ["tiny: folders are numbered"]


def test_progress_counts_what_the_records_say(tiny_model: str, tiny_source: str, out: Path) -> None:
    seen: list[Progress] = []
    run = run_study(study(tiny_model, tiny_source), out, on_progress=seen.append)
    last, results = seen[-1], run.results()
    assert (last.units, last.records, last.share, last.remaining) == (8, 240, 1.0, 0.0)
    assert last.forwards == sum(one.forwards for one in results)
    assert last.backwards == sum(one.backwards for one in results)
    assert all(a.share <= b.share for a, b in itertools.pairwise(seen)) and seen[0].remaining is None


def test_other_versions_are_warned_about(tiny_model: str, tiny_source: str, out: Path) -> None:
    run_here(out, study(tiny_model, tiny_source, attacks="fgsm"))
    manifest = read_manifest(out)
    manifest["environment"]["torch"] = "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    run = run_here(out, study(tiny_model, tiny_source))
    assert any("torch 1.0, now" in warning for warning in run.manifest["warnings"])


def test_what_is_no_run_directory_is_said(tiny_model: str, tiny_source: str, out: Path, tmp_path: Path) -> None:
    run_here(out, study(tiny_model, tiny_source, attacks="fgsm"))
    with pytest.raises(BadInput, match=r"there is no such directory\. Did you mean 'tiny'"):
        Run.open(out.with_name("tinny"))
    with pytest.raises(BadInput, match=r"it has no manifest\.json"):
        Run.open(tmp_path)
    (out / "manifest.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        Run.open(out)
    (out / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(BadInput, match="another version"):
        Run.open(out)


def test_a_model_that_differs_each_time_is_refused(tmp_path: Path, tiny_source: str, out: Path) -> None:
    spec = write_model(tmp_path / "model")
    path = tmp_path / "model" / "tiny_model.py"
    path.write_text(path.read_text().replace("PATTERNS.mean(0))", "torch.rand(1))"))
    two = study(spec, tiny_source, models=[spec, {"model": spec, "outputs": "probabilities"}], attacks="fgsm")
    with pytest.raises(BadInput, match="A model must be the same each time it is loaded"):
        run_here(out, two)


def test_shards_are_read_again_only_where_they_changed(
    tiny_model: str, tiny_source: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_here(out, study(tiny_model, tiny_source, attacks="fgsm"))
    reads: list[object] = []
    read = Store.pieces
    monkeypatch.setattr(Store, "pieces", lambda *given, **how: reads.append(given) or read(*given, **how))
    first = run.results()
    assert (run.results(), len(reads)) == (first, 1)
    worst = run.worst_case()
    assert (run.worst_case(), len(reads)) == (worst, 2) and worst == Run.open(out).worst_case()
    first.clear()  # what a caller does to the list is the caller's
    assert run.results()
    digest = next(iter(run.cells))
    shard = run.store.shard(digest, 0)
    shard.unlink()
    assert run.results()[0].n < Run.open(out).manifest["cells"][digest]["n"]
    assert run.results() == Run.open(out).results()
