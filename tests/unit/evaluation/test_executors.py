from __future__ import annotations

import time
from pathlib import Path

import pytest

from assay.core.errors import AssayError, BadInput
from assay.evaluation.executors import EXECUTORS, Done, Job, Processes, Serial, processes
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run_study import RunFailed
from assay.files import DiskError
from tests.support.tiny import images, rows, run_here, study, write_model, write_pictures

# the first image of chunk 1 when there are 24 pictures in chunks of 4: pictures come by folder, so number 16 is 4
MARKED = float(images(24)[0][16][0, 0, 0])
DIES = f"os.kill(os.getpid(), 9) if abs(x[0, 0, 0, 0] - {MARKED!r}) < 1e-6 and CONDITION else None"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 24)


def test_processes_and_serial_give_the_same_records(tiny_model: str, source: str, tmp_path: Path) -> None:
    transferred = {"attack": "bim", "steps": 2, "surrogate": f"{tiny_model}+{tiny_model}"}
    given = study(tiny_model, source, attacks=["fgsm", {"attack": "pgd", "steps": 3, "restarts": 2}, transferred])
    here = run_here(tmp_path / "a", given)
    there = run_here(tmp_path / "b", given, executor="processes", workers=2)
    assert rows(here) == rows(there) and there.status == "success"
    assert len(there.gallery(next(iter(there.cells)))) == len(here.gallery(next(iter(here.cells)))) > 0


def test_a_worker_that_dies_once_is_replaced(source: str, tmp_path: Path) -> None:
    once = tmp_path / "once"
    # what the model prints goes to the log and does not disturb the messages
    death = DIES.replace("CONDITION", f"not os.path.exists({str(once)!r})")
    hook = f"print('{{}} threads', torch.get_num_threads(), flush=True); {death}"
    hook = hook.replace("os.kill(", f"(open({str(once)!r}, 'w').close(), os.kill(").replace("9) if", "9)) if")
    model = write_model(tmp_path / "model", hook)
    run = run_here(tmp_path / "a", study(model, source, attacks="fgsm", chunk=4), executor="processes", workers=1)
    assert once.exists() and run.status == "success"
    assert [one.errors for one in run.results()] == [0, 0, 0, 0]
    assert "{} threads 1\n" in (run.path / "log").read_text()


def test_a_unit_that_kills_its_workers_becomes_error_records(source: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", DIES.replace("CONDITION", "True"))
    given = study(model, source, attacks="fgsm", chunk=4)
    run = run_here(tmp_path / "a", given, executor=Processes(1, retries=1))
    errors = [row for row in rows(run) if row["status"] == "error"]
    assert len(errors) == 4 * 4 and len(rows(run)) == 24 * 4
    assert errors[0]["error"].startswith(
        "The worker process died (killed by signal 9; out of memory?), at each of 2 tries."
    )


def test_workers_that_do_not_start_are_said(
    tiny_model: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_ENTRY", "raise SystemExit('no interpreter here')")
    with pytest.raises(AssayError, match="Worker processes do not start"):
        run_here(tmp_path / "a", study(tiny_model, source, attacks="fgsm"), executor="processes", workers=1)
    assert (tmp_path / "a" / "log").read_text().count("no interpreter here") == 3


def test_an_error_keeps_its_kind_on_the_way(source: str, tmp_path: Path) -> None:
    unlike = write_model(tmp_path / "model")
    path = tmp_path / "model" / "tiny_model.py"
    path.write_text(path.read_text().replace("PATTERNS.mean(0))", "torch.rand(1))"))
    with pytest.raises(BadInput, match="A model must be the same each time"):
        run_here(tmp_path / "a", study(unlike, source, attacks="fgsm"), executor="processes", workers=1)
    kind = [DiskError.__module__, DiskError.__qualname__]
    assert (
        isinstance(processes.rebuild_error(kind, "full"), DiskError)
        and str(processes.rebuild_error(kind, "full")) == "full"
    )
    for other in (["os", "system"], ["assay.files", "make_folder"], ["assay.files", "nothing"]):
        assert type(processes.rebuild_error(other, "x")) is AssayError


def test_when_every_worker_dies_the_run_ends_though_their_children_live_on(source: str, tmp_path: Path) -> None:
    # the child holds the worker's pipes open; it ends by itself after a while
    child = "os.fork() or (time.sleep(100), os._exit(0))"
    fork = f"({child}, os.kill(os.getpid(), 9)) if x[0, 0, 0, 0] > -1 else None"
    model = write_model(tmp_path / "model", fork)
    began = time.monotonic()
    with pytest.raises(RunFailed, match="failed before any of its samples"):
        run_here(tmp_path / "a", study(model, source, attacks="fgsm", chunk=24), executor=Processes(1, retries=0))
    assert time.monotonic() - began < 90


def test_stopping_early_leaves_no_process(source: str, tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    model = write_model(tmp_path / "model", f"time.sleep(0.05); open({str(beats)!r}, 'a').write('.')")
    (tmp_path / "run").mkdir()
    loader = Loader()
    units = make_plan(study(model, source, chunk=2), loader).units
    answers = Processes(2).run(units, Job(tmp_path / "run", loader))
    first = next(answers)
    assert isinstance(first, Done) and first.records.num_rows == first.unit.rows
    began = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 3
    alive = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == alive
    # who wants the records writes them
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log"]


def test_workers_need_no_disk_in_common_with_the_run(source: str, tmp_path: Path) -> None:
    # whatever a worker writes by a relative name, or learns of the run's directory, would show here
    hook = "[1 / 0 for _ in '.' if any('hidden' in one for one in (*os.sys.argv, *os.environ.values(), os.getcwd()))]"
    model = write_model(tmp_path / "model", hook)
    given = study(model, source, attacks="fgsm", chunk=8)
    there = run_here(tmp_path / "hidden", given, executor="processes", workers=1)
    assert [one.errors for one in there.results()] == [0, 0, 0, 0]
    assert rows(there) == rows(run_here(tmp_path / "here", given))


def test_a_traceback_of_a_worker_is_in_the_log(source: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", f"1 / 0 if abs(x[0, 0, 0, 0] - {MARKED!r}) < 1e-6 else None")
    for executor in ("serial", "processes"):
        run = run_here(tmp_path / executor, study(model, source, attacks="fgsm", chunk=4), executor=executor, workers=1)
        assert sum(one.errors for one in run.results()[:1]) == 4
        assert "ZeroDivisionError" in (run.path / "log").read_text()


def test_executors_by_name() -> None:
    assert EXECUTORS["serial"](3) == Serial() and EXECUTORS["processes"](3) == Processes(3)
    assert processes.processors() >= 1
