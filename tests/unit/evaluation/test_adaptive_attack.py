"""The attack `adaptive`, the surrogate `undefended`, and random models: from the words of a study to its records."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.attacks import build
from assay.attacks.options import Option
from assay.core.compose import Cascade, Confirmed, Through, confirmed
from assay.core.draws import current
from assay.core.errors import BadInput
from assay.core.lenses import Expectation
from assay.core.oracle import Access
from assay.defenses.entry import Defense
from assay.defenses.table import DEFENSES
from assay.evaluation.cell import Cell
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.study.adaptive import adaptive, parts_for
from assay.evaluation.study.attacks import method_of
from assay.models import load_model
from tests.support.tiny import rows, run_here, study

REFUSING = "max-softmax:threshold=-0.9"


class Coin(nn.Module):
    """Adds `sigma` times noise to the images."""

    def __init__(self, sigma: Annotated[float, Option("Of the noise.")] = 0.05) -> None:
        super().__init__()
        self.sigma = sigma

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * current(x).normal("coin", *x.shape[1:]).to(x)


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(DEFENSES, "coin", Defense(Coin, "noise", "nobody", random=True, adaptive=("pgd:steps=3",)))
    return "coin"


def test_every_line_of_the_table_names_attacks_there_are() -> None:
    for entry in DEFENSES.values():
        for part in entry.adaptive:
            assert method_of("adaptive", {"parts": part}, (1, 1)).access is Access.GRADIENT


def test_a_plan_says_what_adaptive_is_made_of(tiny_model: str, tiny_source: str, coin: str) -> None:
    models = [tiny_model, f"{tiny_model}|{REFUSING}", f"{tiny_model}|{coin}"]
    plans = [make_plan(study(one, tiny_source, attacks="adaptive"), Loader()) for one in models]
    parts = [plan.cells[0].attack.options["parts"] for plan in plans]
    assert parts[0] == "cascade"
    assert "adaptive=selective" in parts[1] and "adaptive=orthogonal" in parts[1] and "hinge-sum" in parts[1]
    assert parts[2] == "cascade:eot=10+pgd:steps=3,eot=10"
    assert plans[0].cells[0].attack.label == "adaptive(parts=cascade)"
    for plan in plans:
        (cell,) = plan.cells
        again = Cell.of(cell.plain())
        assert again == cell and again.digest == cell.digest
    assert len({plan.cells[0].digest for plan in plans}) == 3


def test_adaptive_in_python_is_the_same_attack(tiny_model: str) -> None:
    model = load_model(f"{tiny_model}|{REFUSING}")
    method = assay.adaptive(model)
    assert method == method_of("adaptive", {"parts": parts_for(model)}, (1, 1))
    linf = method.in_norm("linf")  # type: ignore[union-attr]  # a composition
    assert isinstance(linf, Cascade) and linf.names[0] == "cascade"
    assert adaptive(load_model(tiny_model)).in_norm("linf").names == ("cascade",)  # type: ignore[union-attr]  # it is there, as the test made it
    with pytest.raises(BadInput, match="model is a Linear, expected a Classifier"):
        assay.adaptive(nn.Linear(1, 1))  # type: ignore[arg-type]  # no classifier


def test_adaptive_at_work_never_leaves_more_than_its_parts(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    knowing = {"steps": 5, "objective": "margin", "adaptive": "selective"}
    parts = "pgd:steps=5,objective=margin,adaptive=selective+hinge-sum:inner=4,rounds=2"
    attacks = [
        {"attack": "adaptive", "parts": parts},
        {"attack": "pgd", **knowing},
        {"attack": "hinge-sum", "inner": 4, "rounds": 2},
    ]
    threats = {"norm": "linf", "eps": ["4/255"]}
    run = run_here(tmp_path / "run", study(f"{tiny_model}|{REFUSING}", tiny_source, attacks=attacks, threats=threats))
    whole, *parts = run.results()
    assert len(parts) == len(attacks) - 1
    for part in parts:
        assert whole.robust_accuracy <= part.robust_accuracy <= part.clean_accuracy


def test_what_knows_a_detector_needs_one(tiny_model: str, tiny_source: str) -> None:
    for model in (tiny_model, f"{tiny_model}|bit-depth:bits=4"):
        wrong = study(model, tiny_source, attacks={"attack": "pgd", "adaptive": "selective"})
        with pytest.raises(BadInput, match=r"adaptive is for models that refuse images, and .* refuses none"):
            make_plan(wrong, Loader())
    with pytest.raises(ValueError, match="adaptive is 'views of', expected one of none, selective"):
        study(tiny_model, tiny_source, attacks={"attack": "pgd", "adaptive": "views of"})
    with pytest.raises(ValueError, match="Unknown attack 'pgdd' in parts"):
        study(tiny_model, tiny_source, attacks={"attack": "adaptive", "parts": "pgdd:steps=3"})


def test_undefended_is_the_network_without_its_defences(tmp_path: Path, tiny_model: str, tiny_source: str) -> None:
    attack = {"attack": "bim", "steps": 3}
    defended = f"{tiny_model}|{REFUSING}"
    (cell,) = make_plan(study(defended, tiny_source, attacks={**attack, "surrogate": "undefended"}), Loader()).cells
    assert cell.attack.options["surrogate_digest"] == load_model(tiny_model).digest
    assert cell.attack.label == "bim(steps=3, surrogate=undefended)"
    named, own = (
        run_here(
            tmp_path / str(i),
            study(defended, tiny_source, attacks={**attack, "surrogate": name}, question="as_attacked"),
        )
        for i, name in enumerate([tiny_model, "undefended"])
    )
    told = ("sample_id", "eps", "status", "prediction", "forwards", "backwards")
    assert [[row[key] for key in told] for row in rows(named)] == [[row[key] for key in told] for row in rows(own)]
    with pytest.raises(BadInput, match=r"stands behind no defence\. Leave the surrogate out"):
        make_plan(study(tiny_model, tiny_source, attacks={**attack, "surrogate": "undefended"}), Loader())


def test_a_lucky_draw_of_a_random_model_is_no_success() -> None:
    class Wavers(nn.Module):
        """Wrong in one answer of five, whatever the image; and wrong for good where the first value is high."""

        def forward(self, x: Tensor) -> Tensor:
            lucky = current(x).uniform("luck").to(x) < 0.2
            wrong = lucky | (x[:, 0, 0, 0] > 0.8)
            lead = torch.where(wrong, 1.0, -1.0) + x[:, 0, 0, 0] * 1e-3
            return torch.stack([-lead, lead], 1)

    model = dataclasses.replace(load_model(Wavers()), random=True)
    x, y = torch.full((40, 1, 2, 2), 0.5), torch.zeros(40, dtype=torch.int64)
    attack = build("bim", steps=10, objective="margin")
    stands = assay.attack(attack, model, x, y, assay.Linf(0.1), keep="first")
    falls = assay.attack(attack, model, x, y, assay.Linf(0.4), keep="first")
    sure = dataclasses.replace(model, random=False)
    torch.manual_seed(0)
    assert int(assay.attack(attack, sure, x, y, assay.Linf(0.1), keep="first").success.sum()) > 30
    assert int(stands.success.sum()) <= 2
    # asked at the first lucky draw, it is not what was looked for: the next attack goes on
    again = assay.attack(build("pgd", steps=10, objective="margin", restarts=3), model, x, y, assay.Linf(0.4))
    assert int(again.success.sum()) >= int(falls.success.sum())
    assert bool((falls.logits.argmax(1) == 1).eq(falls.success).all())
    assert bool((stands.forwards >= 11).all())


def test_each_attack_of_a_composition_is_confirmed() -> None:
    method = confirmed(build("cascade", eot=2).in_norm("linf"))
    assert method == Confirmed(Through(Expectation(2), build("cascade")))
    parts = confirmed(build("apgd-t", restarts=2))
    assert isinstance(parts.children[0].in_norm("linf").children[0], Confirmed)  # type: ignore[union-attr]  # it is there, as the test made it


def test_the_clean_image_of_a_random_model_is_asked_as_often(
    tmp_path: Path, tiny_model: str, tiny_source: str, coin: str
) -> None:
    words = {"attacks": {"attack": "bim", "steps": 2}, "question": "as_attacked"}
    threats = {"norm": "linf", "eps": ["8/255"]}
    run = run_here(tmp_path / "run", study(f"{tiny_model}|{coin}:sigma=0.01", tiny_source, threats=threats, **words))
    for row in rows(run):
        # the image 10 times, 2 steps and the last look, the point 10 times
        assert (row["forwards"], row["backwards"]) == (23, 2) or row["status"] == "clean_wrong"


@pytest.mark.parametrize("n", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_squeezing_of_digits_falls_to_one_wrong_class_in_all_views(n: int) -> None:
    model = load_model("zoo:mnist-cnn|squeeze-detector:threshold=0.263")
    samples = assay.load_data("mnist/test", model=model).load(range(n))
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    settings = {"steps": 60, "objective": "margin"}
    naive = assay.attack(build("pgd", **settings), model.undefended, x, y, assay.L2(3.5), keep="last")
    assert naive.robust_accuracy <= 0.1
    with torch.no_grad():
        answer = model.module(naive.x_adv).argmax(1)
    assert float(((answer == y) | (answer == 10)).float().mean()) >= 0.2
    adaptive = assay.attack(build("pgd", adaptive="views", **settings), model, x, y, assay.L2(3.5))
    # one of five may stand
    assert adaptive.robust_accuracy <= (0.2 if n == 5 else 0.1)
    if n == 5:
        return
    # under L-infinity one bit truly helps
    honest = assay.attack(build("pgd", adaptive="views", **settings), model, x[:20], y[:20], assay.Linf(0.3))
    assert honest.robust_accuracy >= 0.6
