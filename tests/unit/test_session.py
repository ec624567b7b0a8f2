"""A session: planned, looked at, run and audited under one lock, from the command line's words or from Python."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.audit import audit as auditing
from assay.core.draws import Draws
from assay.evaluation.execution import runner
from assay.evaluation.execution.progress import Progress
from assay.evaluation.records import verdicts as verdict_files
from assay.evaluation.run import Run
from assay.session import AuditSettings

EPS = assay.Linf("16/255")


class Brightest(nn.Module):
    """Class c is the brightest channel; `change` is done to the logits."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(20 * x.mean((2, 3)))


def images() -> tuple[Tensor, Tensor]:
    y = torch.arange(24) % 3
    x = 0.4 + 0.02 * Draws.of([str(i) for i in range(24)], 0).uniform("pixels", 3, 4, 4).float()
    x[torch.arange(24), y] += 0.1
    return x, y


def evaluated(model: nn.Module, out: Path | None = None, **settings: Any) -> assay.Evaluation:
    return assay.evaluate(model, images(), settings.pop("attacks", "pgd"), EPS, out, **settings)


def test_numbers_from_python_have_verdicts(tmp_path: Path) -> None:
    found = evaluated(Brightest(), tmp_path / "run")
    (verdict,) = found.verdicts()
    (result,) = found.results()
    assert (verdict.preset, verdict.verdict) == ("quick", result.verdict)
    assert result.verdict in found._repr_html_()
    assert "not audited" not in found._repr_html_()


def test_without_an_audit_the_table_says_so(tmp_path: Path) -> None:
    found = evaluated(Brightest(), tmp_path / "run", audit="off")
    assert found.verdicts() == []
    assert found.results()[0].verdict is None
    assert "not audited" in found._repr_html_()
    # the same call with an audit finds the run done, and audits it
    assert len(evaluated(Brightest(), tmp_path / "run", audit="quick").verdicts()) == 1


def test_what_the_look_finds_is_a_warning_at_the_callers_line_once_and_kept(tmp_path: Path) -> None:
    model = Brightest(lambda logits: logits[:, [1, 2, 0]])
    with pytest.warns(assay.AssayWarning, match="Labels and classes do not line up") as caught:
        found = evaluated(model, tmp_path / "run", audit="off")
    (one,) = caught
    assert one.filename == __file__
    assert str(one.message) in found.run.manifest["warnings"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluated(model, tmp_path / "run", audit="off")  # nothing to do, and nothing said twice
        evaluated(model, tmp_path / "other", audit="off", doctor=False)


def test_what_makes_every_number_wrong_is_refused(tmp_path: Path) -> None:
    model = Brightest(lambda logits: logits * float("nan"))
    with pytest.raises(assay.BadInput, match=r"(?s)NaN or infinite values.*doctor=False"):
        evaluated(model, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"audit": "deep"}, "audit"),
        ({"display": "loud"}, "display is 'loud'"),
        ({"doktor": True}, "Did you mean 'doctor'"),
    ],
)
def test_settings_are_checked(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(assay.BadInput, match=says):
        evaluated(Brightest(), **setting)


@pytest.mark.parametrize("attack", [assay.PGD(2, 0.001), assay.Restarts(assay.BIM(2, 0.001), 2)])
def test_steps_that_end_inside_the_ball_are_warned_about(attack: Any) -> None:
    x, y = images()
    with pytest.warns(assay.AssayWarning, match=r"2 steps of 0\.001 budgets lead at most 0\.2 %") as caught:
        assay.attack(attack, Brightest(), x, y, EPS)
    assert [one.filename for one in caught] == [__file__]
    with pytest.warns(assay.AssayWarning, match=r"pgd.*give 0\.5 or more"):
        evaluated(Brightest(), attacks={"attack": "pgd", "steps": 2, "step_size": 0.001}, audit="off")


def test_steps_that_reach_the_edge_are_not() -> None:
    x, y = images()
    for attack in (assay.PGD(3), assay.BIM(7), assay.MIFGSM(9), assay.PGD(10, 0.1), assay.FGSM()):
        assay.attack(attack, Brightest(), x, y, EPS)


def test_nothing_is_shown_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(Brightest(), tmp_path / "run")
    assert capsys.readouterr() == ("", "")
    evaluated(Brightest(), tmp_path / "shown", display="plain")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Attacking  " in shown.err and "24 of 24 records" in shown.err


def test_the_directory_is_held_from_first_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []

    def holder() -> str:
        return (tmp_path / "run" / "lock").read_text()

    def noted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            assert json.loads(holder())["pid"], f"{what} while nobody holds the directory"
            held.append(what)
            return function(*args, **kwargs)

        return noting

    monkeypatch.setattr(runner, "write_manifest", noted("manifest", runner.write_manifest))
    monkeypatch.setattr(auditing, "keep_verdicts", noted("verdicts", verdict_files.keep_verdicts))
    with pytest.warns(assay.AssayWarning):
        found = evaluated(Brightest(lambda logits: logits[:, [1, 2, 0]]), tmp_path / "run")
    assert held[0] == "manifest" and held[-1] == "verdicts"
    assert any("Labels and classes do not line up" in one for one in found.run.manifest["warnings"])
    assert holder() == ""


def test_an_audit_waits_for_the_run_that_holds_the_directory(tmp_path: Path) -> None:
    found = evaluated(Brightest(), tmp_path / "run", audit="off")
    told: list[str] = []

    def audit_meanwhile(progress: Progress) -> None:
        if progress.stage == "attack" and not told:
            with pytest.raises(assay.BadInput, match="is being written by") as refused:
                found.audit()
            told.append(str(refused.value))

    evaluated(Brightest(), tmp_path / "run", audit="off", on_progress=audit_meanwhile)
    assert told


def test_the_time_left_covers_the_audit(tmp_path: Path) -> None:
    seen: list[Progress] = []
    evaluated(Brightest(), tmp_path / "run", on_progress=seen.append)
    attacking = [one for one in seen if one.stage == "attack"]
    assert attacking[-1].units == attacking[-1].units_planned
    assert attacking[-1].share < 1 and (attacking[-1].remaining or 0) > 0
    assert (seen[-1].stage, seen[-1].share, seen[-1].remaining) == ("audit", 1.0, 0.0)
    assert all(a.share <= b.share for a, b in itertools.pairwise(seen))


def test_ctrl_c_in_the_audit_leaves_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaker = assay.evaluate(Brightest(), images(), "pgd", [EPS, assay.L2(0.5)], tmp_path / "whole")
    keep = auditing.keep_verdicts
    kept: list[Any] = []

    def stopped(folder: Path, found: Any) -> None:
        if kept:
            raise KeyboardInterrupt
        kept.append(found)
        keep(folder, found)

    monkeypatch.setattr(auditing, "keep_verdicts", stopped)
    with pytest.raises(KeyboardInterrupt) as left:
        assay.evaluate(Brightest(), images(), "pgd", [EPS, assay.L2(0.5)], tmp_path / "run")
    assert "continues" in left.value.__notes__[0]
    monkeypatch.setattr(auditing, "keep_verdicts", keep)
    run = Run.open(tmp_path / "run")
    assert run.status == "success"
    assert len(run.verdicts()) == 1
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.parquet")}
    again = assay.evaluate(Brightest(), images(), "pgd", [EPS, assay.L2(0.5)], tmp_path / "run")
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*.parquet")}
    told = [[(one.key, one.verdict, one.broken) for one in found.verdicts()] for found in (again, weaker)]
    assert sorted(told[0]) == sorted(told[1]) and len(told[0]) == 2


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(assay.BadInput, match="Did you mean 'quick'"):
        AuditSettings("quik")
