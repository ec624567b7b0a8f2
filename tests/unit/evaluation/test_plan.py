from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.evaluation.cell import Cell, Unit
from assay.evaluation.loader import Loader
from assay.evaluation.plan import Plan, make_plan, usual_chunk
from assay.evaluation.study.spec import AttackSpec, DataSpec, ModelSpec, Study, ThreatSpec
from tests.support.tiny import study

CELL = Cell(
    model=ModelSpec(model="m"), weights="w", preprocess="null", data=DataSpec(source="d"), fingerprint="f",
    ids_digest="i", n=10, attack=AttackSpec.model_validate("fgsm"), version=1,
    threat=ThreatSpec.model_validate({"norm": "linf", "eps": ["1/255", "2/255"]}), question="worst_case",
    goal="untargeted", order="ascending", seed=0, chunk=4,
)  # fmt: skip


@given(n=st.integers(1, 5000), chunk=st.integers(1, 700), budgets=st.integers(1, 12))
def test_chunks_cover_every_sample_once(n: int, chunk: int, budgets: int) -> None:
    threat = ThreatSpec.model_validate({"norm": "linf", "eps": [i / 20 for i in range(budgets)]})
    cell = dataclasses.replace(CELL, n=n, chunk=chunk, threat=threat)
    positions = [at for i in range(cell.chunks) for at in cell.positions(i)]
    assert positions == list(range(n))
    assert sum(cell.rows(i) for i in range(cell.chunks)) == n * budgets
    assert all(cell.positions(i) for i in range(cell.chunks))


@given(st.sets(st.integers(0, 2)), st.sets(st.integers(0, 2)))
def test_what_is_left_is_what_is_planned_less_what_is_done(first: set[int], second: set[int]) -> None:
    other = dataclasses.replace(CELL, seed=1)
    plan = Plan(Study.model_construct(), (CELL, other), {}, {})
    done = {CELL.digest: first, other.digest: second}
    left = {(unit.cell.digest, unit.chunk) for unit in plan.todo(done)}
    planned = {(cell.digest, i) for cell in plan.cells for i in range(3)}
    assert left == planned - {(digest, i) for digest, chunks in done.items() for i in chunks}


def test_a_cell_reads_back_from_the_manifest() -> None:
    assert Cell.of(CELL.plain()) == CELL and Cell.of(CELL.plain()).digest == CELL.digest
    assert Unit(CELL, 2).rows == 4


CHANGES: list[dict[str, Any]] = [
    {"model": ModelSpec(model="other")},
    {"model": ModelSpec(model="m", outputs="probabilities")},
    {"weights": "x"},
    {"preprocess": "{}"},
    {"data": DataSpec(source="d", limit=10)},
    {"fingerprint": "x"},
    {"ids_digest": "x"},
    {"attack": AttackSpec.model_validate({"attack": "pgd", "steps": 3})},
    {"version": 2},
    {"threat": ThreatSpec.model_validate({"norm": "linf", "eps": ["1/255", "3/255"]})},
    {"threat": ThreatSpec.model_validate({"norm": "linf", "eps": ["1/255", "2/255"], "box": False})},
    {"threat": ThreatSpec.model_validate({"norm": "linf", "eps": ["normalized 1", "normalized 2"]})},
    {"question": "as_attacked"},
    {"goal": "targeted 3"},
    {"order": "descending"},
    {"seed": 1},
    {"chunk": 5},
]


def test_a_digest_covers_everything_that_numbers_depend_on() -> None:
    digests = [CELL.digest, *(dataclasses.replace(CELL, **change).digest for change in CHANGES)]
    assert len(set(digests)) == len(digests)


@given(st.integers(0, 2000))
def test_a_digest_is_never_taken_for_a_number(seed: int) -> None:
    digest = dataclasses.replace(CELL, seed=seed).digest
    assert len(digest) == 16 and set(digest) <= set("0123456789abcdef") and digest[0] in "abcdef"


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert CELL.digest == "dcef7be5c1e96222"


def test_a_plan_loads_each_model_once(tiny_model: str, tiny_source: str) -> None:
    loads: list[str] = []

    class Counting(Loader):
        def model(self, spec: ModelSpec) -> Any:
            loads.append(spec.model)
            return super().model(spec)

    plan = make_plan(study(tiny_model, tiny_source), Counting())
    assert loads == [tiny_model] and len(plan.cells) == 2 and len(plan.units) == 8
    assert [cell.n for cell in plan.cells] == [30, 30]


def test_two_selections_of_one_source_are_two_studies(tiny_model: str, tiny_source: str) -> None:
    both = study(tiny_model, [tiny_source, {"source": tiny_source, "limit": 5}])
    with pytest.raises(ValueError, match="selected in two ways"):
        make_plan(both, Loader())


def test_equal_cells_of_two_grids_are_one(tiny_model: str, tiny_source: str) -> None:
    twice = study(tiny_model, tiny_source, grids=[{"attacks": "fgsm"}, {"attacks": ["fgsm", "bim"]}])
    assert len(make_plan(twice, Loader()).cells) == 2


@pytest.mark.parametrize(("shape", "n", "chunk"), [((1, 28, 28), 10, 128), ((3, 224, 224), 20, 8), (None, 640, 20)])
def test_a_chunk_is_a_full_pass_but_can_be_shared_out(shape: Any, n: int, chunk: int) -> None:
    assert usual_chunk(shape, n) == chunk


def test_files_may_not_change_during_a_run(tiny_model: str, tmp_path: Path) -> None:
    from tests.support.tiny import write_pictures

    source = write_pictures(tmp_path / "pictures", 8)
    cell = make_plan(study(tiny_model, source), Loader()).cells[0]
    (tmp_path / "pictures" / "0" / "0000.png").unlink()
    with pytest.raises(ValueError, match="is not the data of the plan"):
        Loader().samples(cell)


def test_cells_know_the_size_of_their_images(tiny_model: str, tiny_source: str) -> None:
    cell = make_plan(study(tiny_model, tiny_source, attacks="fgsm"), Loader()).cells[0]
    assert cell.image == (8, 8) and Cell.of(cell.plain()) == cell
    plain = {key: value for key, value in cell.plain().items() if key != "image"}
    assert Cell.of(plain).image == (224, 224) and Cell.of(plain).digest == cell.digest


def test_two_parts_share_no_sample(tiny_model: str, tiny_source: str) -> None:
    loader, ids = Loader(), []
    for part in ("held-out 9", "rest 9"):
        given = study(tiny_model, {"source": tiny_source, "part": part}, attacks="fgsm")
        (cell,) = make_plan(given, loader).cells
        assert Cell.of(cell.plain()) == cell and Study.of(given.plain()) == given
        ids.append(set(loader.samples(cell).ids))
    assert len(ids[0]) == 9 and len(ids[1]) == 21 and not ids[0] & ids[1]
