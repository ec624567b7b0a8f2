"""The option `surrogate` in studies: made elsewhere, judged here, and known by the weights it was made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from assay.attacks import build
from assay.core.compose import Transferred
from assay.core.compose import run as run_method
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.threat import Linf
from assay.data import load_data
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.executors.base import Job
from assay.evaluation.executors.processes import check_named
from assay.evaluation.loader import Loader
from assay.evaluation.methods import stops_at_success
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from assay.evaluation.study.spec import AttackSpec, Study, study_schema
from assay.evaluation.study.surrogates import names
from assay.models import Ensemble, load_model
from tests.support.bench import Case
from tests.support.tiny import rows, run_here, study, write_model

EPS = 16 / 255


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a model whose patterns differ a little from those of the tiny model."""
    folder = tmp_path_factory.mktemp("twin")
    spec = write_model(folder)
    path = folder / "tiny_model.py"
    noise = "PATTERNS = PATTERNS + 0.2 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))\n"
    path.write_text(path.read_text().replace("\n\nclass Matcher", f"\n{noise}\nclass Matcher", 1))
    return spec


def made_on(surrogate: str, model: str, source: str, **more: Any) -> Study:
    attack = {"attack": "bim", "steps": 3, "surrogate": surrogate}
    usual = {"attacks": attack, "threats": {"norm": "linf", "eps": ["0", "16/255"]}, "question": "as_attacked"}
    return study(model, source, **{**usual, **more})


@pytest.mark.parametrize("several", [False, True])
def test_a_study_finds_what_python_finds(
    tmp_path: Path, tiny_model: str, tiny_source: str, twin: str, several: bool
) -> None:
    written = f"{twin}+{tiny_model}" if several else twin
    run = run_here(tmp_path / "run", made_on(written, tiny_model, tiny_source))
    model, other = load_model(tiny_model), load_model(twin)
    data = load_data(tiny_source, model=model)
    samples = data.load(range(len(data)))
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    home = Ensemble([other.module, model.module]) if several else other.module
    here = Case(model.module, x, Untargeted(y), Linf("16/255"))
    method = Transferred(build("bim", steps=3), TorchOracle(home))
    found = run_method(method, here.problem(), Draws.of(list(data.ids), 0))
    told = {row["sample_id"]: row for row in rows(run) if row["eps"] > 0}
    assert [told[name]["prediction"] for name in data.ids] == found.logits.argmax(1).tolist()
    # one look at the image, which serves budget 0 as well; 3 passes of the surrogate, its last look, and the verdict
    each = rows(run)
    assert sum(row["forwards"] for row in each) == (1 + 4 + 1) * len(data)
    assert sum(row["backwards"] for row in each) == 3 * len(data)
    assert sum(row["queries"] for row in each) == (1 + 1) * len(data)
    (cell,) = run.cells.values()
    assert not stops_at_success({**cell, "question": "worst_case"})
    assert passes_per_sample(Cell.of(cell)).forwards == 6 and passes_per_sample(Cell.of(cell)).backwards == 3


def test_a_cell_is_known_by_the_surrogates_weights(
    tmp_path: Path, tiny_model: str, tiny_source: str, twin: str
) -> None:
    (plain,) = make_plan(made_on(twin, tiny_model, tiny_source), Loader()).cells
    assert plain.attack.options["surrogate_digest"] == load_model(twin).digest
    assert plain.attack.label == f"bim(steps=3, surrogate={twin})"
    again = Cell.of(plain.plain())
    assert again == plain and again.digest == plain.digest
    (own,) = make_plan(made_on(tiny_model, tiny_model, tiny_source), Loader()).cells
    (both,) = make_plan(made_on(f"{twin} + {tiny_model}", tiny_model, tiny_source), Loader()).cells
    assert len({plain.digest, own.digest, both.digest}) == 3
    changed = {**plain.attack.options, "surrogate_digest": "f" * 32}
    wrong = made_on(twin, tiny_model, tiny_source, attacks={"attack": "bim", **changed})
    with pytest.raises(BadInput, match=r"has weights .*, expected ffff"):
        make_plan(wrong, Loader())


def test_a_model_in_python_serves_as_a_surrogate(tiny_model: str, tiny_source: str) -> None:
    given = load_model(tiny_model)
    loader = Loader(models={"mine": given})
    (cell,) = make_plan(made_on("mine", tiny_model, tiny_source), loader).cells
    assert cell.attack.options["surrogate_digest"] == given.digest
    given.module.train()
    bench = loader.bench(cell)
    assert bench.surrogates["mine"].model is given.module and not given.module.training
    loader.close()
    assert given.module.training
    with pytest.raises(BadInput, match="The model mine exists in this Python process alone"):
        check_named([Unit(cell, 0)], Job(Path(), loader))


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        ({"attack": "pgd", "surrogate": 3}, "surrogate is 3, expected a model such as zoo:mnist-cnn"),
        ({"attack": "pgd", "surrogate": "a.py:f+"}, "surrogate is 'a.py:f\\+'"),
        ({"attack": "patch", "file": "x", "surrogate": "a.py:f"}, "'patch' has no option 'surrogate'"),
        ({"attack": "pgd", "diversit": 0.5}, "Did you mean 'diversity'"),
    ],
)
def test_options_that_cannot_be(attack: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AttackSpec.model_validate(attack)


def test_models_that_do_not_fit_are_told_before_anything_runs(
    tmp_path: Path, tiny_model: str, tiny_source: str
) -> None:
    with pytest.raises(BadInput, match=r"zoo:mnist-cnn takes images of 1 x 28 x 28, .* of 3 x 8 x 8"):
        make_plan(made_on("zoo:mnist-cnn", tiny_model, tiny_source), Loader())
    with pytest.raises(BadInput, match="Unknown model"):
        make_plan(made_on("nothing-of-the-kind", tiny_model, tiny_source), Loader())


def test_the_schema_knows_the_options() -> None:
    written = {"study": "s", "models": "m.py:f", "data": "mnist/test", "threats": {"norm": "linf", "eps": 0.1}}
    good = {"attack": "pgd", "surrogate": "zoo:a+zoo:b", "surrogate_digest": "a1", "eot": 3, "diversity": 0.5}
    jsonschema.validate({**written, "attacks": good}, study_schema())
    for slip in ({"eot": 0}, {"diversity": 2}, {"surrogate": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**written, "attacks": {**good, **slip}}, study_schema())


def test_a_plus_inside_a_chain_joins_no_models() -> None:
    squeezed = "zoo:mnist-cnn|squeeze-detector:squeezers=bit-depth-1+median-2,threshold=.5"
    assert names(squeezed) == (squeezed,)
    others = ("undefended|jpeg", "efficientnet-lite0", "my.py:net?size=28")
    assert names(" + ".join((squeezed, *others))) == (squeezed, *others)
