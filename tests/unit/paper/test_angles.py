"""Four angles of defence: which number is naive, which is adaptive, and how both are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import BadInput
from assay.evaluation.analysis.score import Result
from assay.paper import angles
from assay.paper.angles_page import headline, page
from assay.paper.commands.extension import check_extension, print_extension
from assay.statistics import wilson

_CHAIN = "zoo:mnist-cnn|bit-depth"
_DETECTOR = "zoo:mnist-cnn|max-softmax:threshold=-0.9"


def _result(model: str, attack: str, kept: int, threat: str = "l2", verdict: str | None = None) -> Result:
    n, clean = 100, 98
    low, high = wilson(kept, n)
    known: dict[str, Any] = {
        "model": model, "attack": attack, "threat": threat, "eps": 2.0, "eps_written": "2", "unit": "pixel", "n": n,
        "clean_accuracy": clean / n, "clean_low": 0.93, "clean_high": 0.99, "robust_accuracy": kept / n,
        "robust_low": low, "robust_high": high, "verdict": verdict,
    }  # fmt: skip
    fields = dataclasses.fields(Result)
    return Result(**{**{field.name: 0 for field in fields if field.default is dataclasses.MISSING}, **known})


@dataclasses.dataclass(frozen=True)
class _Run:
    found: tuple[Result, ...]
    study: str = "sen2023-defenses"
    path: Path = Path("runs/sen2023/defenses")

    @property
    def manifest(self) -> dict[str, Any]:
        return {"models": {_DETECTOR: {"rejects": True}}}

    def results(self) -> list[Result]:
        return list(self.found)


def _measured() -> Any:
    naive = "pgd(steps=40, surrogate=undefended)"
    return _Run((
        _result(_CHAIN, naive, 88), _result(_CHAIN, "adaptive(stages=apgd)", 3, verdict="trusted"),
        _result(_DETECTOR, naive, 50), _result(_DETECTOR, "adaptive(stages=selective)", 30),
        _result("zoo:mnist-cnn", "pgd(steps=40)", 12), _result("zoo:mnist-cnn", "adaptive(stages=cascade)", 5),
        _result("zoo:mnist-pgd", "pgd(steps=40)", 95),
    ))  # fmt: skip


def test_rows_join_naive_and_adaptive_angle_by_angle() -> None:
    found = angles.rows(_measured())
    told = [
        (row.angle, row.defense, row.naive and row.naive.share, row.adaptive and row.adaptive.share) for row in found
    ]
    assert told == [
        ("no defence", "the network alone", 0.12, 0.05),
        ("adversarial training", "trained on PGD's images", 0.95, None),
        ("detection", "max-softmax:threshold=-0.9", 0.5, 0.3),
        ("modified inputs", "bit-depth", 0.88, 0.03),
    ]
    assert [row.verdict for row in found] == [None, None, None, "trusted"]
    assert [row.rejects for row in found] == [False, False, True, False]


def test_the_headline_is_the_largest_step() -> None:
    before, left, _ = (part.replace("\N{NO-BREAK SPACE}", " ") for part in headline(angles.rows(_measured())))
    assert "bit-depth keeps 88.0 % at L₂ 2" in before and left == "3.0 %"
    assert headline([])[0] == "Nothing has been measured yet."


def test_the_page_and_the_table_show_both_numbers(tmp_path: Path) -> None:
    html = page(_measured(), tmp_path / "page.html").read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for text in (
        "88.0 % [80.2–93.0]",
        "3.0 % [1.0–8.5]",
        "trusted",
        "may refuse",
        "not adaptive",
        "robust accuracy with rejection",
    ):
        assert text in html, text
    lines: list[str] = []
    print_extension(_measured(), lambda line: lines.append(line.replace("\N{NO-BREAK SPACE}", " ")))
    assert any(
        line.startswith("detection") and "50.0 % [40.4–59.6]" in line and "30.0 % [21.9–39.6]" in line for line in lines
    )


def test_the_study_is_of_four_angles_and_says_what_has_to_be_fitted() -> None:
    study = angles.study(20)
    models = [spec.model for grid in study.grids for spec in grid.models]
    assert {angles._of(model)[0] for model in models} == set(angles.ANGLES)
    fitted = list(angles.chains(study))
    assert ("zoo:mnist-cnn", "max-softmax") in fitted
    assert not any("bit-depth" in chain for _, chain in fitted)


def test_an_unknown_extension_is_refused() -> None:
    with pytest.raises(BadInput, match=r"Unknown extension 'defences'. Did you mean 'defenses'\?"):
        check_extension("defences")
