"""Shares of a run, one after the other in this process; tests/acceptance has them beside each other."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import assay
from assay.core.errors import BadInput
from assay.evaluation.execution import ownership, parts
from assay.evaluation.execution.lock import Holder, InUse, entering, holding, look
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.parts import WAITING, Standing, lock_of, locks_of_all, read_parts, standings
from assay.evaluation.execution.progress import Progress
from assay.evaluation.execution.runner import RunFailed
from assay.evaluation.execution.share import Share
from assay.evaluation.loader import Loader
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.session import AuditSettings, Session, audit_directory
from tests.support import tiny
from tests.support.holders import content, elsewhere
from tests.support.serving import Server
from tests.support.tiny import rows, run_here, study, write_model
from tests.unit.evaluation.test_endpoints import LINF, SQUARE, asking, scores


def stand(folder: Path) -> dict[str, Standing]:
    return {str(one.share): one for one in standings(folder, look(locks_of_all(folder), seconds=0))}


def test_the_last_share_finishes_the_run(out: Path, tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source)
    for number in (3, 1):
        assert run_here(out, given, share=f"{number}/3").status == "started"
    told = {share: one.state for share, one in stand(out).items()}
    assert told == {"1/3": "done", "2/3": "not begun", "3/3": "done"}
    run = run_here(out, given, share="2/3")
    assert run.status == "success" and rows(run) == rows(run_here(tmp_path / "b", given))
    assert sum(one["units"] for one in read_parts(out).values()) == 8
    before = (out / "manifest.json").read_bytes()
    run_here(out, given, share="2/3")
    run_here(out, given)
    assert (out / "manifest.json").read_bytes() == before


def test_more_shares_than_units(out: Path, tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source, attacks="fgsm", chunk=15)
    runs = [run_here(out, given, share=f"{number}/4") for number in range(1, 5)]
    assert [run.status for run in runs] == ["started"] * 3 + ["success"]
    assert sorted(one["planned"] for one in read_parts(out).values()) == [0, 0, 1, 1]
    assert rows(runs[-1]) == rows(run_here(tmp_path / "b", given))


def test_a_whole_run_does_what_shares_left(out: Path, tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source)
    run_here(out, given, share="1/3")
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    run = run_here(out, given)
    assert run.status == "success" and rows(run) == rows(run_here(tmp_path / "b", given))
    assert shards and {path: path.stat().st_mtime_ns for path in shards} == shards


def test_another_study_begins_a_division_of_its_own_when_nobody_is_at_work(
    out: Path, tmp_path: Path, tiny_model: str, tiny_source: str
) -> None:
    run_here(out, study(tiny_model, tiny_source, attacks="fgsm"), share="1/2")
    more = study(tiny_model, tiny_source)
    run_here(out, more, share="1/2")
    assert [str(share) for share in read_parts(out)] == ["1/2"]
    run = run_here(out, more, share="2/2")
    assert run.status == "success" and rows(run) == rows(run_here(tmp_path / "b", more))
    with pytest.raises(BadInput, match="belongs to another study"):
        run_here(out, study(tiny_model, tiny_source, seed=5), share="1/2")
    fork = run_here(out, study(tiny_model, tiny_source, seed=5), share="1/1", fork=True)
    assert fork.path == out.with_name("tiny-2") and fork.status == "success"


def test_shares_on_other_kinds_of_devices_are_noted(out: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source, attacks="fgsm")
    run_here(out, given, share="1/3", device="cpu")
    assert read_parts(out)[Share(1, 3)]["device"] == "cpu"
    run_here(out, given, share="2/3", device="cpu")
    assert read_parts(out)[Share(2, 3)]["warnings"] == []
    path = out / "shares" / "1-of-3.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "device": "cuda"}))
    run = run_here(out, given, share="3/3", device="cpu")
    (told,) = [one for one in run.manifest["warnings"] if "round differently" in one]
    assert told.startswith("Share 3/3 computed on cpu, and others on cuda")


def test_two_studies_that_fork_into_one_place_at_once_do_not_take_it_from_each_other(
    out: Path, tiny_model: str, tiny_source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(out, study(tiny_model, tiny_source))
    first = run_here(out, study(tiny_model, tiny_source, seed=5), share="1/1", fork=True)
    # as one that looked for a free place before the first was there
    monkeypatch.setattr(ownership, "claim", lambda *given: (first.path, out))
    with pytest.raises(BadInput, match="tiny-2 belongs to another study"):
        run_here(out, study(tiny_model, tiny_source, seed=6), share="1/1", fork=True)
    assert rows(Run.open(first.path)) == rows(first)


def test_other_weights_are_refused_beside_a_share_at_work(
    out: Path, tmp_path: Path, tiny_model: str, tiny_source: str, hasty: None
) -> None:
    given = study(tiny_model, tiny_source, attacks=["fgsm"])
    run_here(out, given, share="1/2")
    more = study(tiny_model, tiny_source, attacks=["fgsm", "bim"])
    before = sorted(out.rglob("*.parquet"))
    with elsewhere(lock_of(out, Share(1, 2)), "share 1/2"):
        with pytest.raises(BadInput, match=r"written by share 1/2 \(process \d+ on node7\): another plan"):
            run_here(out, more, share="2/2")
        with pytest.raises(BadInput, match=r"written by share 1/2 .*a division into 2 shares, .* would be 2/3"):
            run_here(out, given, share="2/3")
        with pytest.raises(InUse, match=r"written by share 1/2 \(process \d+ on node7\)\. Wait for them"):
            run_here(out, given)
        with pytest.raises(InUse, match="written by share 1/2"):
            audit_directory(Run.open(out), AuditSettings("quick"), Loader())
        assert stand(out)["1/2"].state == "working elsewhere"
    assert sorted(out.rglob("*.parquet")) == before


def test_shares_that_wait_to_enter_are_in_nobodys_way(
    out: Path, tmp_path: Path, tiny_model: str, tiny_source: str
) -> None:
    given = study(tiny_model, tiny_source, attacks="fgsm")
    (out / "shares").mkdir(parents=True)
    # many tasks start at once, and the first one that enters divides the run
    with holding(lock_of(out, Share(2, 2)), f"share 2/2{WAITING}"):
        assert run_here(out, given, share="1/2").status == "started"
        with pytest.raises(InUse, match=r"written by share 2/2, waiting to begin \(process"):
            run_here(out, given, share="2/2")
    assert run_here(out, given, share="2/2").status == "success"
    with holding(lock_of(out, Share(2, 2)), f"share 2/2{WAITING}"):
        more = run_here(out, study(tiny_model, tiny_source))
    assert more.status == "success" and rows(more) == rows(run_here(tmp_path / "b", study(tiny_model, tiny_source)))


def test_a_share_that_was_taken_over_ends(out: Path, tiny_model: str, tiny_source: str, hasty: None) -> None:
    given = study(tiny_model, tiny_source)
    path = lock_of(out, Share(1, 2))

    def sleep(now: Progress) -> None:
        # it slept, and another process took its place meanwhile
        if now.units == 1:
            path.write_bytes(content(dataclasses.replace(Holder.here("share 1/2"), host="node7")))
            time.sleep(0.5)

    with pytest.raises(RunFailed, match=r"Another process took over share 1/2 in .*tiny"):
        run_study(given, out, Options(share="1/2"), on_progress=sleep)
    assert len(list(out.rglob("*.parquet"))) == 2
    assert b"node7" in path.read_bytes()


def test_shares_that_died_elsewhere_are_gone_on_from(
    out: Path, tmp_path: Path, tiny_model: str, tiny_source: str, hasty: None
) -> None:
    given = study(tiny_model, tiny_source)
    run_here(out, given, share="1/2")
    with elsewhere(lock_of(out, Share(2, 2)), "share 2/2", beats=False):
        run = run_here(out, given, share="2/2")
    assert run.status == "success" and rows(run) == rows(run_here(tmp_path / "b", given))
    assert "A share was killed; another process went on from its finished shards." in run.manifest["warnings"]
    other = tmp_path / "other"
    run_here(other, given, share="1/2")
    with elsewhere(lock_of(other, Share(2, 2)), "share 2/2", beats=False):
        run = run_here(other, given)
    assert any("An earlier run here was killed" in one for one in run.manifest["warnings"])
    assert lock_of(other, Share(2, 2)).read_bytes() == b""


def test_a_damaged_shard_is_done_again_by_its_own_share(
    out: Path, tmp_path: Path, tiny_model: str, tiny_source: str
) -> None:
    given = study(tiny_model, tiny_source)
    run_here(out, given, share="1/2")
    shard = next(iter(sorted(out.rglob("*.parquet"))))
    shard.write_bytes(b"half")
    assert run_here(out, given, share="2/2").status == "success", "the last one sees that it is not done"
    run = Run.open(out)
    assert any("is cut off or damaged; moved to" in one for one in run.manifest["warnings"])
    assert rows(run) == rows(run_here(tmp_path / "b", given))


@pytest.fixture
def broken(tmp_path: Path, tiny_source: str) -> Iterator[tuple[str, Path]]:
    """A model that fails on dark images while a marker is there."""
    marker = tmp_path / "fails"
    marker.touch()
    hook = f"assert not (os.path.exists({str(marker)!r}) and float(x.mean()) < 0.495), 'too dark'"
    yield write_model(tmp_path / "broken", hook), marker


def test_errors_of_all_shares_count(out: Path, broken: tuple[str, Path], tiny_source: str) -> None:
    model, marker = broken
    given = study(model, tiny_source, attacks="fgsm", chunk=1)
    first = run_here(out, given, share="1/2")
    few = read_parts(out)[Share(1, 2)]["errors"]
    assert 0 < few < 15 and not first.reportable
    with pytest.raises(RunFailed, match=f"fail_on_error allows {few}"):
        run_here(out, given, share="2/2", fail_on_error=few)
    assert "fail_on_error allows" in read_parts(out)[Share(2, 2)]["error"]
    assert stand(out)["2/2"].state == "error"
    run = run_here(out, given, share="2/2")
    errors = sum(row["status"] == "error" for row in rows(run))
    assert run.status == "success" and errors > 4 * few
    assert f"{errors} records are errors" in run.manifest["not_reportable_because"][-1]
    marker.unlink()
    # each share tries its own again, and the last one counts anew
    assert run_here(out, given, share="1/2", retry_errors=True).status == "started"
    run = run_here(out, given, share="2/2", retry_errors=True)
    assert run.status == "success" and not any(row["status"] == "error" for row in rows(run))
    assert not any("are errors" in one for one in run.manifest["not_reportable_because"])


def test_an_endpoint_is_asked_by_shares_of_one_machine(out: Path, tiny_source: str, hasty: None) -> None:
    server = Server(scores, (3, 8, 8), 4).start()
    try:
        given = study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF)
        assert run_here(out, given, share="1/2").status == "started"
        asked = server.rows
        with (
            elsewhere(lock_of(out, Share(1, 2)), "share 1/2"),
            pytest.raises(BadInput, match=r"share 1/2 .* on node7\) is another machine, .*--executor processes"),
        ):
            run_here(out, given, share="2/2")
        assert server.rows == asked
        assert run_here(out, given, share="2/2").status == "success"
    finally:
        server.close()


def test_python_runs_shares_of_objects(tmp_path: Path) -> None:
    settings = {"audit": "off", "doctor": False, "chunk": 4}
    model = tiny.data(2).load and assay.load_model(write_model(tmp_path / "model"))
    given = (model, tiny.data(12), ["fgsm"], LINF)
    with pytest.raises(BadInput, match="share is '1/2' and out is missing"):
        assay.evaluate(*given, share="1/2", **settings)
    first = assay.evaluate(*given, tmp_path / "run", share="1/2", **settings)
    assert first.run.status == "started"
    last = assay.evaluate(*given, tmp_path / "run", share="2/2", **settings)
    assert last.run.status == "success"
    assert rows(last.run) == rows(assay.evaluate(*given, tmp_path / "whole", **settings).run)


def test_a_share_that_begins_again_before_the_last_one_shuts_the_door_keeps_it_from_finishing(
    out: Path, tiny_model: str, tiny_source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = study(tiny_model, tiny_source)
    run_here(out, given, share="1/2")
    told = out / "shares" / "1-of-2.json"
    noted = told.read_text()

    def begun_meanwhile(folder: Path, **how: Any) -> Any:
        if json.loads((folder / "shares" / "2-of-2.json").read_text())["status"] == "success":
            told.write_text(noted.replace('"success"', '"started"'))
        return entering(folder, **how)

    monkeypatch.setattr(parts, "entering", begun_meanwhile)
    assert run_here(out, given, share="2/2").status == "started"
    monkeypatch.undo()
    told.write_text(noted)
    # and the door is open again
    assert run_here(out, given, share="2/2").status == "success"


def test_the_last_share_audits(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source, attacks="fgsm", threats={"norm": "linf", "eps": ["16/255"]})
    audit = AuditSettings("quick")
    first = Session(given, tmp_path / "run", Options(share="1/2"), doctor=False, audit=audit).run()
    assert first.share == Share(1, 2) and [one.state for one in first.shares] == ["working", "not begun"]
    assert not first.verdicts and not first.run.verdicts()
    last = Session(given, tmp_path / "run", Options(share="2/2"), doctor=False, audit=audit).run()
    assert last.share is None and len(last.verdicts) == 1 and len(last.run.verdicts()) == 1


def test_what_shares_noted_may_be_damaged(out: Path, tiny_model: str, tiny_source: str) -> None:
    given = study(tiny_model, tiny_source, attacks="fgsm")
    run_here(out, given, share="1/2")
    (out / "shares" / "1-of-2.json").write_text("half a n")
    (out / "shares" / "9-of-2.json").write_text(json.dumps({"share": "9/2"}))
    assert stand(out)["1/2"].state == "not begun"
    run_here(out, given, share="2/2")
    assert Run.open(out).status == "started", "the first share's end is not known"
    assert run_here(out, given, share="1/2").status == "success"
