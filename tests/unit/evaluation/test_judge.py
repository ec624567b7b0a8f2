"""A grid with a judge: images made on a model are judged by another one, and both numbers are paired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput
from assay.evaluation.analysis.pairs import pair_tables, paired_cells
from assay.evaluation.cell import Cell
from assay.evaluation.endpoints import looks_per_sample
from assay.evaluation.likeness import Facts, completed
from assay.evaluation.loader import Loader
from assay.evaluation.passes import queries_per_image
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.study.spec import Study
from assay.models.classifier import Preprocess
from assay.models.deployed import Deployed
from tests.support.tiny import CLASSES, SIZE, data, evaluate, patterns, rows, run_here, study, write_model

EPS = ["8/255", "24/255"]
THREAT = {"norm": "linf", "eps": EPS}


@pytest.fixture(scope="session")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the tiny model with coarse weights and scores, as a quantised file has them."""
    folder = tmp_path_factory.mktemp("rounded")
    write_model(folder)
    path = folder / "tiny_model.py"
    text = path.read_text().replace("(PATTERNS - PATTERNS.mean(0))", "(PATTERNS - PATTERNS.mean(0)).mul(4).round()")
    path.write_text(text.replace("* 2\n", "/ 2\n"))
    return f"{path}:factory"


def judged(model: Any, judge: str, source: str, **more: Any) -> Study:
    usual = {"threats": THREAT, "attacks": {"attack": "pgd", "steps": 4}, "judge": judge}
    return study(model, source, **{**usual, **more})


def scores(seed: int = 3) -> Deployed:
    """Return a deployed model that answers as the tiny one with other weights does, and gives no gradients."""
    noise = 0.3 * torch.rand(CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    weights = (patterns() - patterns().mean(0) + noise).flatten(1).numpy()
    return Deployed(lambda x: (x.reshape(len(x), -1) @ weights.T).astype(np.float32))


class Linear(nn.Module):
    """The tiny model, of any number of classes."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        centred = (patterns() - patterns().mean(0)).flatten(1)
        self.register_buffer("patterns", torch.cat([centred, torch.zeros(classes - CLASSES, centred.shape[1])]))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.patterns.T * 2


def test_a_grid_has_the_cells_of_its_model_and_those_of_the_judge(
    tiny_model: str, tiny_source: str, rounded: str
) -> None:
    plan = make_plan(
        judged(tiny_model, rounded, tiny_source, attacks=["pgd", "ddn"], threats={"norm": "l2", "eps": [1]}), Loader()
    )
    alone = make_plan(
        study(tiny_model, tiny_source, attacks=["pgd", "ddn"], threats={"norm": "l2", "eps": [1]}), Loader()
    )
    own, other = plan.cells[:2], plan.cells[2:]
    assert [cell.digest for cell in own] == [cell.digest for cell in alone.cells]
    assert [cell.model.model for cell in other] == [rounded, rounded]
    assert [cell.attack.attack for cell in other] == ["pgd", "ddn"]
    assert {cell.attack.options["surrogate"] for cell in other} == {tiny_model}
    assert len({cell.digest for cell in plan.cells}) == 4
    assert Study.of(plan.study.plain()) == plan.study


def test_the_pair_counts_what_the_records_hold(tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str) -> None:
    run = run_here(tmp_path / "run", judged(tiny_model, rounded, tiny_source))
    (table,) = run.pairs()
    assert (table.model, table.judge, table.attack) == (tiny_model, rounded, "pgd(steps=4)")
    by_cell: dict[tuple[str, float], dict[str, str]] = {}
    for row in rows(run):
        by_cell.setdefault((row["cell"], row["eps"]), {})[row["sample_id"]] = row["status"]
    for pair in table.pairs:
        own, judge = (by_cell[side[0], pair.eps] for side in table.cells)
        kept = [(own[name] == "survived", judge[name] == "survived") for name in own]
        assert pair.n == len(kept) == 30
        assert pair.both == kept.count((True, True))
        assert (pair.only_model, pair.only_judge) == (kept.count((True, False)), kept.count((False, True)))
        fair = [name for name in own if "clean_wrong" not in (own[name], judge[name])]
        broke = [name for name in fair if own[name] == "broken"]
        assert (pair.broke, pair.carried) == (len(broke), sum(judge[name] == "broken" for name in broke))
        assert pair.low <= pair.difference <= pair.high
    results = {(one.model, one.eps): one.robust_accuracy for one in run.results()}
    for pair in table.pairs:
        assert results[tiny_model, pair.eps] == pair.model_accuracy
        assert results[rounded, pair.eps] == pair.judge_accuracy
    assert [pair.eps for pair in table.pairs] == sorted(pair.eps for pair in table.pairs)
    assert table.pairs[-1].broke > 0 < table.pairs[-1].carried


def test_a_judge_that_is_added_leaves_the_model_s_records_and_a_run_goes_on(
    tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str
) -> None:
    plain = study(tiny_model, tiny_source, threats=THREAT, attacks={"attack": "pgd", "steps": 4})
    first = rows(run_here(tmp_path / "run", plain))
    both = judged(tiny_model, rounded, tiny_source)
    again = run_here(tmp_path / "run", both)
    kept = [row for row in rows(again) if row["model"] == tiny_model]
    assert kept == first
    assert rows(again) == rows(run_here(tmp_path / "other", both))
    # whatever is missing is made again, to the same records
    shard = next((tmp_path / "run").rglob("*.parquet"))
    shard.unlink()
    assert rows(run_here(tmp_path / "run", both)) == rows(again)


def test_workers_find_the_same(tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str) -> None:
    given = judged(tiny_model, rounded, tiny_source)
    here = run_here(tmp_path / "here", given)
    there = run_here(tmp_path / "there", given, executor="processes", workers=2)
    assert rows(here) == rows(there)
    assert here.pairs() == there.pairs()


def test_several_attacks_have_a_worst_case_and_several_models_a_pair_each(
    tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str
) -> None:
    other = write_model(tmp_path / "other", hook="x = x + 0")
    run = run_here(tmp_path / "run", judged([tiny_model, other], rounded, tiny_source, attacks=["fgsm", "bim"]))
    tables = run.pairs()
    assert [(table.model, table.attack) for table in tables] == [
        (model, attack) for model in (tiny_model, other) for attack in ("fgsm", "bim", "worst case of 2")
    ]
    for single, also, worst in (tables[:3], tables[3:]):
        for one, two, all_ in zip(single.pairs, also.pairs, worst.pairs, strict=True):
            assert all_.model_accuracy <= min(one.model_accuracy, two.model_accuracy)
            assert all_.judge_accuracy <= min(one.judge_accuracy, two.judge_accuracy)
    worst_case = {(one.model, one.eps): one for one in run.worst_case()}
    assert tables[2].pairs[-1].model_accuracy == worst_case[tiny_model, tables[2].pairs[-1].eps].robust_accuracy


def test_a_judge_without_gradients_is_asked_for_labels_alone(tmp_path: Path) -> None:
    """The pair that it is for: gradients of the one, answers of the other, in one call."""
    judge = assay.load_model(scores(), access="scores", identity="scores 3")
    found = assay.evaluate(
        Linear(), data(30), [{"attack": "pgd", "steps": 4}], assay.Linf(24 / 255), tmp_path, judge=judge,
        audit="off", doctor=False, chunk=8,
    )  # fmt: skip
    (table,) = found.pairs()
    (pair,) = table.pairs
    assert 0 < pair.carried <= pair.broke
    asked = {row["cell"]: row["queries"] for row in rows(found.run)}
    assert asked[table.cells[1][0]] <= 3  # the image itself, and at most two made of it
    (cell,) = (Cell.of(plain) for plain in found.run.cells.values() if "surrogate" in plain["attack"])
    assert queries_per_image(cell) == 2 and looks_per_sample(cell) == 3
    with pytest.raises(BadInput, match="needs gradient"):
        evaluate(judge, data(8), ["pgd"], assay.Linf(0.1))


def test_one_attack_alone_is_judged_by_the_very_images_that_the_model_saw(
    tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str
) -> None:
    run = run_here(tmp_path / "run", judged(tiny_model, rounded, tiny_source, question="as_attacked"))
    (table,) = run.pairs()
    sizes: dict[str, dict[tuple[float, str], float]] = {}
    # images that both had right before: the others are not attacked
    both = [row for row in rows(run) if row["status"] != "clean_wrong"]
    for row in sorted(both, key=lambda row: (row["eps"], row["sample_id"])):
        sizes.setdefault(row["cell"], {})[row["eps"], row["sample_id"]] = row["size_l2"]
    own, judge = (sizes[side[0]] for side in table.cells)
    shared = own.keys() & judge.keys()
    assert shared
    assert all(own[one] == judge[one] for one in shared)


def test_what_the_judge_leaves_open_it_takes_from_the_model(tmp_path: Path) -> None:
    shape = Preprocess((SIZE, SIZE), None, "nearest")
    model = assay.Classifier(Linear(), spec="m", preprocess=shape, classes=tuple("abcd"), std=(0.5,), mean=(0.1,))
    bare = assay.Classifier(scores(), spec="j", digest="d", mean=(0.0,), std=(1.0,))
    told = completed(bare, Facts.of(model))
    assert (told.preprocess, told.classes, told.digest) == (shape, tuple("abcd"), "d")
    assert (told.mean, told.std) == ((0.0,), (1.0,))
    other = assay.load_model(bare, identity="j")
    other = type(other)(**{**vars(other), "preprocess": Preprocess((4, 4))})
    with pytest.raises(BadInput, match="size=8x8&interpolation=nearest"):
        evaluate(assay.load_model(model), data(8), ["fgsm"], assay.Linf(0.1), judge=other, out=tmp_path)


def wrong(model: str, source: str, rounded: str) -> dict[str, tuple[dict[str, Any], str]]:
    return {
        "itself": ({"judge": model}, "is one of the models"),
        "surrogate": ({"attacks": {"attack": "pgd", "surrogate": rounded}}, "made on a surrogate already"),
        "nothing": (
            {"attacks": "none", "corruptions": "fog", "threats": {"norm": "linf", "eps": 0}},
            "without an attack",
        ),
        "predicted": ({"data": {"source": source, "labels": "predicted"}}, "two different questions"),
        "goal": ({"goal": "targeted least-likely"}, "another class for the judge"),
        "unknown": ({"judge": {"model": rounded, "nets": 2}}, "judge.nets: Unknown key 'nets'"),
    }


@pytest.mark.parametrize("slip", list(wrong("", "", "")))
def test_slips_say_what_to_write(tiny_model: str, tiny_source: str, rounded: str, slip: str) -> None:
    more, said = wrong(tiny_model, tiny_source, rounded)[slip]
    with pytest.raises(BadInput, match=said):
        judged(tiny_model, **{"judge": rounded, "source": tiny_source, **more})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (assay.Classifier(Linear(CLASSES + 1), spec="five"), "The surrogate answers with 4 classes, the model with 5"),
        (assay.Classifier(Linear(), input_shape=(3, 9, 9)), "3 x 9 x 9"),
        (assay.Classifier(Linear(), classes=tuple("abcde")), r"4 classes, .* has 5"),
    ],
)
def test_a_judge_that_does_not_fit_is_refused(tmp_path: Path, judge: assay.Classifier, said: str) -> None:
    model = assay.Classifier(Linear(), input_shape=(3, SIZE, SIZE), classes=tuple("abcd"), identity="m")
    with pytest.raises(BadInput, match=said):
        evaluate(model, data(8), ["fgsm"], assay.Linf(0.1), judge=judge, out=tmp_path)


def test_a_judge_with_the_weights_of_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is the model .* itself"):
        evaluate(Linear(), data(8), ["fgsm"], assay.Linf(0.1), judge=Linear(), out=tmp_path)


def test_a_judge_may_draw_and_may_refuse(tmp_path: Path) -> None:
    """A random judge is asked ten times; a refused image counts as right under attack; neither number is adaptive."""
    for chain in ("gaussian-noise:sigma=0.05", "max-softmax:threshold=-0.3"):
        judge = assay.defend(assay.load_model(scores(), access="scores", identity="s"), chain)
        folder = tmp_path / chain[:5]
        run = evaluate(Linear(), data(16), ["fgsm"], assay.Linf(0.1), judge=judge, out=folder)
        (table,) = run.pairs()
        (one,) = [result for result in run.results() if result.model == table.judge]
        assert one.ignores_defense
        assert table.pairs[0].judge_accuracy == one.robust_accuracy


def test_a_bound_before_the_attacks_is_about_the_model_alone(
    tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str
) -> None:
    run = run_here(tmp_path / "run", judged(tiny_model, rounded, tiny_source, certify="first"))
    (table,) = run.pairs()
    before = {side: run.cells[table.cells[side][0]].get("before", "") for side in (0, 1)}
    assert before[0] and not before[1]
    off = run_here(tmp_path / "off", judged(tiny_model, rounded, tiny_source, certify="off"))
    assert off.pairs()[0].pairs[-1].judge_accuracy == table.pairs[-1].judge_accuracy


def test_both_numbers_are_audited(tmp_path: Path) -> None:
    judge = assay.load_model(scores(), access="scores", identity="s")
    found = assay.evaluate(
        Linear(), data(24), [{"attack": "pgd", "steps": 4}], assay.Linf(6 / 255), tmp_path, judge=judge, audit="quick",
        doctor=False,
    )  # fmt: skip
    (table,) = found.pairs()
    assert {one.model for one in found.verdicts()} == {table.model, table.judge}


def test_other_transfers_are_no_pairs(tmp_path: Path, tiny_model: str, tiny_source: str, rounded: str) -> None:
    attacks = ["bim", {"attack": "bim", "surrogate": rounded}]
    run = run_here(tmp_path / "run", study([rounded, tiny_model], tiny_source, threats=THREAT, attacks=attacks))
    assert Run.open(run.path).pairs() == []
    assert paired_cells(run.cells) == []


def test_what_a_side_could_not_judge_is_in_no_count() -> None:
    import pyarrow as pa

    spec = {"attack": {"attack": "fgsm"}, "model": {"model": "m"}}
    shown = {
        "model": "m", "data": "d", "threat": "linf", "unit": "pixel", "question": "worst_case", "goal": "untargeted",
        "eps": ["0.1"], "attack": "fgsm", "specs": spec,
    }  # fmt: skip
    of_judge = {"attack": {"attack": "fgsm", "surrogate": "m", "pushed": True}, "model": {"model": "j", "like": "m"}}
    cells = {"a": shown, "b": {**shown, "model": "j", "specs": of_judge}}
    told = {
        "a": ["survived", "broken", "broken", "clean_wrong", "survived", "error", "certified"],
        "b": ["survived", "broken", "survived", "survived", "broken", "survived", "rejected"],
    }
    records = [
        {"cell": cell, "eps": 0.1, "eps_written": "0.1", "sample_id": str(at), "status": status}
        for cell, each in told.items()
        for at, status in enumerate(each)
    ]
    assert paired_cells(cells) == [("a", "b")]
    (table,) = pair_tables(pa.Table.from_pylist(records), cells, [("a", "b")])
    (pair,) = table.pairs
    assert (pair.n, pair.model_right, pair.judge_right) == (6, 5, 6)
    assert (pair.both, pair.only_model, pair.only_judge) == (2, 1, 2)
    assert (pair.broke, pair.carried) == (2, 1)
    assert pair.difference == pytest.approx(1 / 6)
