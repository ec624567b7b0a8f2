"""Tables read from real runs of a tiny model, in the directories where the paper's runs would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.run_study import run_study
from assay.evaluation.study.spec import Study
from assay.paper.choices import Choices
from assay.paper.measured import view, views
from assay.paper.runs import table_runs
from assay.paper.sentences import peak
from assay.paper.studies import filled_in, raw_study
from assay.paper.tables import MODES, PRINTED, printed_tables
from tests.support.tiny import write_model, write_pictures

N = 12


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tiny")
    return write_model(folder), write_pictures(folder / "pictures", N)


def measure(out: Path, name: str, tiny: tuple[str, str], stand_in: bool = False, **more: Any) -> Path:
    """Run a study of the paper with a tiny model and tiny pictures in the place of its own."""
    model, data = tiny
    choices = Choices(out, None if stand_in else Path("none"), stand_in=stand_in)
    raw = filled_in(raw_study(name), choices, lambda: [{"source": data}])
    grids = [{**grid, "models": [model], "data": data, **more} for grid in raw.pop("grids", [raw])]
    for threat in (threat for grid in grids for threat in grid["threats"]):
        threat["eps"] = [str(eps).removeprefix("normalized ") for eps in threat["eps"]]
    whole = {"study": raw["study"], "grids": [{k: v for k, v in grid.items() if k != "study"} for grid in grids]}
    return run_study(Study.of(whole), out / (name + ("-stand-in" if stand_in else ""))).path


def test_nothing_measured_still_shows_what_was_printed(tmp_path: Path) -> None:
    found = views(tmp_path)
    assert [one.number for one in found] == list(printed_tables())
    for one in found:
        assert one.runs == {}
        assert all(row.measured == {} and row.printed for row in one.rows)
        assert one.missing.startswith("Not measured")
        assert not one.stand_in
    assert found[3].missing == f"Not measured: assay paper run --table IV --imagenet DIR --out {tmp_path}"
    assert found[12].missing == f"Not measured: assay paper run --table XIII --out {tmp_path}"
    assert found[6].missing == f"Not measured: assay paper run --table VII --imagenet DIR --out {tmp_path}"
    assert found[2].rows[0].labels[PRINTED][0] == "hippopotamus"


def test_a_sweep_beside_the_printed_one(tmp_path: Path, tiny: tuple[str, str]) -> None:
    directory = measure(tmp_path, "table-iv-as-published", tiny)
    found = view(tmp_path, "iv")
    assert (found.number, found.unit, len(found.columns)) == ("IV", "percent", 10)
    assert found.runs == {"as_published": directory}
    top1, top5 = found.rows
    counts = top1.counts["as_published"]
    assert [n for _, n in counts] == [N] * 10  # type: ignore[misc]
    values = top1.measured["as_published"]
    assert values == tuple(100 * hits / n for hits, n in counts)  # type: ignore[misc]
    assert values[0] < values[-1]  # type: ignore[operator]
    # of four classes the true one is always among five
    assert set(top5.measured["as_published"]) == {0.0}
    told = " ".join(found.sentences)
    assert "Not to be reported, as published" in told
    assert "top-5 error, as published: at most 62.16 points from the printed value, at eps 0.08" in told
    assert "top-1 error is highest: printed at eps 0.06, as published at" in told
    assert "ResNet-104" in told
    assert "Not measured corrected: assay paper run --table IV --mode corrected --imagenet DIR" in found.missing


def test_two_modes_and_a_run_that_is_not_finished(tmp_path: Path, tiny: tuple[str, str]) -> None:
    for mode in ("as-published", "corrected"):
        directory = measure(tmp_path, f"table-v-{mode}", tiny)
    assert view(tmp_path, "V").missing == ""
    assert set(view(tmp_path, "V").rows[0].measured) == set(MODES)
    manifest = directory / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"success"', '"cancelled"'))
    found = view(tmp_path, "V")
    assert set(found.runs) == {"as_published"}
    assert f"({directory} cancelled)" in found.missing


def test_the_stand_in_shows_only_where_the_paper_is_not_measured(tmp_path: Path, tiny: tuple[str, str]) -> None:
    other = measure(tmp_path, "table-vi-as-published", tiny, stand_in=True)
    found = view(tmp_path, "VI")
    assert (found.stand_in, found.runs) == (True, {"as_published": other})
    assert "cannot be compared" in found.sentences[0]
    assert not any("from the printed value" in one for one in found.sentences)
    assert view(tmp_path, "VI", stand_in=False).runs == {}
    own = measure(tmp_path, "table-vi-corrected", tiny)
    found = view(tmp_path, "VI")
    assert (found.stand_in, found.runs) == (False, {"corrected": own})
    assert view(tmp_path, "VI", stand_in=True).runs == {"as_published": other}


def test_clean_errors_of_both_modes_come_from_one_run(tmp_path: Path, tiny: tuple[str, str]) -> None:
    # a network that is right, and one that takes every class for the next
    wrong = tmp_path / "wrong.py"
    tail = (
        "\n\ndef wrong():\n    from assay.models import Classifier\n    net = torch.nn.Sequential(Matcher(), Roll())\n"
    )
    tail += "    return Classifier(net, input_shape=(3, 8, 8))\n"
    roll = "\n\nclass Roll(torch.nn.Module):\n    def forward(self, x):\n        return x.roll(1, 1)\n"
    wrong.write_text(Path(tiny[0].rpartition(":")[0]).read_text() + roll + tail)
    directory = measure(tmp_path, "table-i", tiny, models=[tiny[0], f"{wrong}:wrong", f"{wrong}:factory"])
    found = view(tmp_path, "I")
    assert found.runs == {"as_published": directory, "corrected": directory}
    assert found.missing == ""
    right, rolled, again = found.rows[0].measured["as_published"]
    assert right == again < rolled == 100  # type: ignore[operator]
    assert found.rows[0].measured["as_published"] == found.rows[0].measured["corrected"]
    assert "resnet101, IMAGENET1K_V1: top-1 error 22.63 % (printed 13.30 %)" in " ".join(found.sentences)
    assert sum("Not to be reported" in one for one in found.sentences) == 1


def test_accuracy_of_digits_and_attacks_that_were_not_printed(tmp_path: Path, tiny: tuple[str, str]) -> None:
    measure(tmp_path, "table-xiv-corrected", tiny)
    found = view(tmp_path, "XIV")
    assert [row.name for row in found.rows] == [
        "FGSM", "FGSM on the loss at T = 100", "FGSM on the margin", "FGSM on DLR", "Carlini-Wagner",
    ]  # fmt: skip
    assert found.rows[0].printed[-1] == 0.9111
    assert set(found.rows[1].printed) == {None}
    accuracy = found.rows[0].measured["corrected"]
    assert accuracy[0] == found.rows[0].counts["corrected"][0][0] / N  # type: ignore[index]
    assert accuracy[0] > accuracy[-1]  # type: ignore[operator]


def test_attacks_on_fewer_images_join_the_table_and_say_so(tmp_path: Path, tiny: tuple[str, str]) -> None:
    costly = "table-xiv-autoattack-as-published"
    attacks = [{"attack": "autoattack", "version": "rand", "steps": 2}]
    measure(tmp_path, costly, tiny, attacks=attacks)
    assert view(tmp_path, "XIV").notes == ()  # a row beside nothing
    measure(tmp_path, "table-xiv-as-published", tiny)
    found = view(tmp_path, "XIV")
    row = found.rows[-1]
    assert row.name.startswith("autoattack") and row.name.endswith(f", {N} images")
    assert row.images("as_published") == N and row.images("corrected") is None
    counts = row.counts["as_published"]
    assert counts[:6] == (None,) * 6 and all(one is not None for one in counts[6:])
    (note,) = found.notes
    assert (
        "AutoAttack, as published: dropout stays on" in note and f"The first {N} images, at eps 0.1, 0.2, 0.3" in note
    )


def test_every_single_image_has_its_five_classes(tmp_path: Path) -> None:
    # five classes and more: the five likeliest of a thousand
    (tmp_path / "big.py").write_text(
        "import torch\n\n\ndef factory():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 1000))\n"
    )
    data = write_pictures(tmp_path / "pictures", 4)
    run = measure(tmp_path, "table-iii-corrected", (f"{tmp_path}/big.py:factory", data))
    found = view(tmp_path, "III")
    assert found.runs == {"corrected": run}
    mine = [row for row in found.rows if row.measured]
    # four pictures, one of each of the classes 0 to 3; goldfish and tiger shark are printed too
    assert sorted(row.name for row in mine) == ["goldfish", "great white shark", "tench", "tiger shark"]
    for row in mine:
        values = row.measured["corrected"]
        assert len(values) == len(row.labels["corrected"]) == 5
        assert list(values) == sorted(values, reverse=True)  # type: ignore[type-var]
    goldfish = found.rows[0]
    assert (goldfish.name, goldfish.labels[PRINTED][0]) == ("goldfish", "hippopotamus")
    assert any(one.startswith("goldfish, corrected: ") and "0 of the 5 printed" in one for one in found.sentences)


def test_the_peak_is_the_first_of_the_highest() -> None:
    assert peak(("a", "b", "c", "d"), (1.0, 3.0, None, 3.0)) == "b"
    assert peak(("a",), (None,)) == ""


def test_runs_are_where_the_view_looks(tmp_path: Path) -> None:
    (first, _) = table_runs(["XIII"], MODES, Choices(tmp_path))
    assert first.directory == tmp_path / "table-xiii-as-published"
