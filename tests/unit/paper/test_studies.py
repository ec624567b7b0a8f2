from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
from torchvision.models import get_model_weights

from assay.core.threat import Linf
from assay.evaluation.study.spec import Study
from assay.paper.choices import Choices
from assay.paper.studies import (
    MEAN_STD,
    STAND_IN_STD,
    filled_in,
    image_numbers,
    of_single_images,
    patch_files,
    raw_study,
    studies_folder,
    written_budget,
)
from assay.paper.tables import IMAGENET_NETWORKS, MODES, PROTOCOLS, Kind, printed_table

ROOT = Path(__file__).parents[3]
STUDIES = ROOT / "studies" / "sen2023"
NAMES = sorted({name for how in PROTOCOLS.values() for mode in MODES for name in how.names(mode)})
SWEEPS = [how for how in PROTOCOLS.values() if how.kind is Kind.SWEEP]
CHOICES = Choices(Path("out"), Path("/data/val"))


def nothing() -> list[dict[str, Any]]:
    return [{"source": "samples"}]


def filled(name: str, choices: Choices = CHOICES) -> Study:
    return Study.of(filled_in(raw_study(name), choices, nothing))


def test_every_table_and_mode_has_its_file_and_no_file_is_left_over() -> None:
    # and the study of what the paper only names
    assert sorted(path.stem for path in STUDIES.glob("*.yaml")) == sorted([*NAMES, "defenses"])
    for name in NAMES:
        assert raw_study(name)["study"] == f"sen2023-{name}"


def test_an_installed_package_brings_the_files() -> None:
    # a wheel built from this mapping holds them where studies_folder looks first
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"] == {"studies/sen2023": "assay/paper/sen2023"}
    assert "studies" in build["sdist"]["include"]
    assert Path(str(studies_folder())) == STUDIES


@pytest.mark.parametrize("name", [name for name in NAMES if not list(patch_files(raw_study(name)))])
def test_every_study_can_be_read(name: str) -> None:
    assert filled(name).study == f"sen2023-{name}"


def test_the_files_of_the_patch_tables_are_what_their_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("patches", STUDIES / "patches.py")
    assert spec is not None and spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = dict(generator.files())
    assert sorted(written) == sorted(STUDIES / f"{n}.yaml" for n in NAMES if list(patch_files(raw_study(n))))
    assert {path: path.read_text() for path in written} == written


def test_the_mean_standard_deviation_is_that_of_the_weights() -> None:
    for network in IMAGENET_NETWORKS:
        std = get_model_weights(network).DEFAULT.transforms().std
        assert sum(std) / 3 == pytest.approx(MEAN_STD, abs=1e-12)
    assert written_budget(0.02, MEAN_STD) == "1.1526/255"


@pytest.mark.parametrize("how", SWEEPS, ids=[how.number for how in SWEEPS])
def test_the_two_modes_of_a_sweep_differ_in_unit_box_and_size_alone(how: Any) -> None:
    published, corrected = (filled(how.studies[mode]).grids[0] for mode in ("as_published", "corrected"))
    same = ("models", "data", "attacks", "question", "goal", "seed")
    assert all(getattr(published, name) == getattr(corrected, name) for name in same)
    (one,), (other,) = published.threats, corrected.threats
    columns = printed_table(how.number).columns
    assert (one.norm, one.box, one.grid) == ("linf", False, None)
    assert [budget.written for budget in one.eps] == [f"normalized {column}" for column in columns]
    assert (other.norm, other.box, other.grid) == ("linf", True, None)
    assert [budget.written for budget in other.eps] == [written_budget(float(c), MEAN_STD) for c in columns]
    # in grey levels, of the mean over the channels, both are as large
    std = get_model_weights(how.networks[0]).DEFAULT.transforms().std
    sizes = [budget.grey_levels(std) for budget in one.eps]
    assert [budget.grey_levels() for budget in other.eps] == pytest.approx(sizes)
    assert published.question == "as_attacked"
    assert published.data[0].per_class == 5


def test_published_budgets_differ_by_channel_and_corrected_ones_do_not() -> None:
    std = get_model_weights("resnet101").DEFAULT.transforms().std
    published = Linf("normalized 0.02", box=False).in_units_of(std)
    assert (published.scale * 0.02 * 255).flatten().tolist() == pytest.approx([1.1679, 1.1424, 1.1475])  # type: ignore[operator]
    assert Linf(written_budget(0.02, MEAN_STD)).scale == 1.0


def test_the_single_images() -> None:
    for name in ("table-ii", "table-iii-as-published", "table-iii-corrected"):
        raw = raw_study(name)
        assert of_single_images(raw)
        assert image_numbers(raw) == [7, 16, 20, 27]
        assert filled(name).grids[0].data[0].source == "samples"
    (published,), (corrected,) = (
        filled(f"table-iii-{mode}").grids[0].threats for mode in ("as-published", "corrected")
    )
    assert ([one.written for one in published.eps], published.box) == (["normalized 0.02"], False)
    assert ([one.written for one in corrected.eps], corrected.box) == (["1.1526/255"], True)


def test_the_users_choices_take_their_places(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.touch()
    chosen = Choices(Path("out"), Path("/data/val"), weights="V2", files={"alexnet": file}, limit=7)
    (grid,) = filled("table-i", chosen).grids
    models = [one.model for one in grid.models]
    assert models[::2] == ["torchvision:resnet101@IMAGENET1K_V2", "torchvision:regnet_y_400mf@IMAGENET1K_V2"]
    assert models[1].startswith(f"file:{file}?arch=torchvision:alexnet&mean=0.485,0.456,0.406&std=0.229,0.224,0.225")
    assert (grid.data[0].source, grid.data[0].per_class, grid.data[0].limit) == ("imagenet:/data/val", 5, 7)
    (alexnet,) = filled("table-v-corrected", Choices(Path("o"), Path("/d"), weights="V2")).grids[0].models
    assert alexnet.model == "torchvision:alexnet@IMAGENET1K_V1"


@pytest.mark.parametrize("how", SWEEPS, ids=[how.number for how in SWEEPS])
def test_the_stand_in_follows_the_same_protocol(how: Any) -> None:
    chosen = Choices(Path("out"), stand_in=True)
    published, corrected = (filled(how.studies[mode], chosen) for mode in ("as_published", "corrected"))
    assert published.study.endswith("-stand-in")
    grids = published.grids[0], corrected.grids[0]
    network = {"IV": "efficientnet-lite0", "V": "efficientnet-lite1", "VI": "efficientnet-lite2"}[how.number]
    assert {(grid.models[0].model, grid.data[0].source) for grid in grids} == {(network, "samples")}
    assert [one.written for one in grids[0].threats[0].eps][1] == "normalized 0.02"
    sizes = [one.grey_levels((STAND_IN_STD,) * 3) for one in grids[0].threats[0].eps]
    assert [one.grey_levels() for one in grids[1].threats[0].eps] == pytest.approx(sizes)


def test_patches_lie_beside_the_runs() -> None:
    raw = filled_in(raw_study("table-vii-as-published"), CHOICES, nothing)
    assert len(list(patch_files(raw))) == 15
    assert next(patch_files(raw)) == "out/patches/as_published/resnet101-saltshaker-32.safetensors"
    assert raw["grids"][0]["goal"] == "targeted saltshaker"
    stand_in = filled_in(raw_study("table-vii-corrected"), Choices(Path("out"), stand_in=True), nothing)
    assert next(patch_files(stand_in)).startswith("out/patches-stand-in/corrected/")
    assert stand_in["data"] == [{"source": "samples", "part": "held-out 5"}]


def test_autoattack_meets_the_networks_of_table_xiv_as_they_answer_there() -> None:
    how = PROTOCOLS["XIV"]
    for mode in MODES:
        (table,), (costly,) = (filled(name).grids for name in (how.studies[mode], how.beside[mode]))
        assert costly.models == table.models
        assert {one.value for one in costly.threats[0].eps} <= {one.value for one in table.threats[0].eps}
        assert costly.question == "worst_case"
        # dropout that stays on asks for the version that looks more than once
        random = "dropout=on" in costly.models[0].model
        assert costly.attacks[0].options == ({"version": "rand"} if random else {})
        assert costly.data[0].limit == 30
        fewer = filled(how.beside[mode], Choices(Path("out"), limit=7)).grids[0].data[0].limit
        assert fewer == 7


def test_goals_are_numbers_for_models_without_names(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    chosen = Choices(Path("out"), Path("/d"), files={"resnet101": tmp_path / "a.pth"})
    raw = filled_in(raw_study("table-vii-corrected"), chosen, nothing)
    assert {grid["goal"] for grid in raw["grids"]} == {f"targeted {n}" for n in (773, 804, 530, 719, 859)}
