from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import assay
from assay.core.errors import BadInput
from assay.core.threat import Linf
from assay.evaluation.export import images as export
from assay.evaluation.export.images import Choice, Exported, ExportFailed, export_images
from assay.evaluation.loader import Loader
from assay.evaluation.run import Run
from assay.models import load_model

N = 30


class Brightest(nn.Module):
    """Class 1 where the mean of the image is above a half, else class 0; its gradient is that of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        score = self.scale * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-score, score], 1)


def images(channels: int = 3) -> tuple[Tensor, Tensor]:
    """8-bit images of one grey value each, 30 of them from 0.2 to 0.8, and labels: all right but for one."""
    grey = (torch.linspace(0.2, 0.8, N) * 255).round() / 255
    labels = (grey > 0.5).long()
    labels[0] = 1
    return grey.view(N, 1, 1, 1).expand(N, channels, 4, 4).clone(), labels


def evaluated(out: Path, channels: int = 3, **settings: Any) -> tuple[Run, Loader]:
    x, y = images(channels)
    given: dict[str, Any] = {"attacks": ["fgsm"], "threat": [Linf("10/255"), Linf(0.1)], **settings}
    data = TensorDataset(x, y)
    found = assay.evaluate(Brightest(), data, given["attacks"], given["threat"], out, audit="off", doctor=False)
    return found.run, found.loader


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Loader]:
    return evaluated(tmp_path_factory.mktemp("run") / "run")


def rows(found: Exported) -> list[dict[str, str]]:
    with found.index.open(newline="") as file:
        return list(csv.DictReader(file))


def attacked(eps: float) -> Tensor:
    """What FGSM makes of the images, by hand: every value moves by eps towards the other class."""
    x, _ = images()
    away = torch.where(x.flatten(1).mean(1) > 0.5, -1.0, 1.0)
    return (x + eps * away.view(N, 1, 1, 1)).clamp(0, 1)


def made_at(table: list[dict[str, str]], row: dict[str, str]) -> float:
    """The budget that broke an image first: what is broken inside a ball is so inside every larger one."""
    return min(float(one["eps"]) for one in table if one["sample_id"] == row["sample_id"])


def at(row: dict[str, str]) -> int:
    return int(row["sample_id"].rpartition("/")[2])


def test_arrays_hold_what_the_attack_found_to_the_last_bit(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    for form in ("npy", "safetensors"):
        found = export_images(run, tmp_path / form, Choice(form), loader=loader)
        records = run.records(["sample_id", "eps", "status"]).to_pylist()
        broken = {(one["sample_id"], one["eps"]) for one in records if one["status"] == "broken"}
        table = rows(found)
        assert {(row["sample_id"], float(row["eps"])) for row in table} == broken and len(table) == len(broken) > 5
        assert (found.images, found.broken, found.fooling, found.outside, found.differ) == (len(broken),) * 3 + (0, 0)
        for row in table:
            file = tmp_path / form / row["file"]
            stored = torch.from_numpy(np.load(file)) if form == "npy" else load_file(file)["images"]
            assert stored.dtype == torch.float32
            assert torch.equal(stored[int(row["row"])], attacked(made_at(table, row))[at(row)])
            assert row["still_fools"] == row["inside_budget"] == "true"
            assert int(row["prediction"]) == 1 - int(row["label"]) == 1 - int(images()[1][at(row)])
        if form == "safetensors":
            first = load_file(tmp_path / form / table[0]["file"])
            assert len(first["labels"]) == len(first["images"]) and first["labels"].dtype == torch.int64


def test_pngs_are_judged_as_they_were_written(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    found = export_images(run, tmp_path / "png", loader=loader)
    table = rows(found)
    for row in table:
        picture = np.array(Image.open(tmp_path / "png" / row["file"]))
        assert picture.shape == (4, 4, 3) and Path(row["file"]).parent.name == row["label"]
        expected = (attacked(made_at(table, row))[at(row)] * 255).round()
        assert torch.equal(torch.from_numpy(picture).permute(2, 0, 1).float(), expected)
        mean = float(picture.mean()) / 255
        assert int(row["prediction"]) == int(mean > 0.5) and row["row"] == ""
        size = abs(picture.astype(np.float64).mean() / 255 - float(images()[0][at(row)].mean()))
        assert float(row["size"]) == pytest.approx(size, abs=1e-6)
        # 10/255 is on the grid, 0.1 is 25.5/255: a half is rounded to the even level, inside or not
        assert (row["inside_budget"] == "true") == (size <= float(row["eps"]) + 1e-6)
    assert found.outside == sum(row["inside_budget"] == "false" for row in rows(found)) > 0
    assert not any(row["inside_budget"] == "false" for row in rows(found) if row["eps_written"] == "10/255")


def test_an_image_that_rounding_saves_is_counted(tmp_path: Path) -> None:
    # 127/255 is class 0; a change by 0.6 of a level crosses the middle (127.5), and is rounded to 128; one of .501 of a
    # level from 128/255 ends at 127.499, fools, and is rounded to 127; a threshold at 127.4 is crossed and rounded away
    class Sharp(Brightest):
        def forward(self, x: Tensor) -> Tensor:
            score = self.scale * (x.flatten(1).mean(1) - 127.4 / 255)
            return torch.stack([-score, score], 1)

    x, y = torch.full((2, 1, 2, 2), 127 / 255), torch.zeros(2, dtype=torch.int64)
    data, eps = TensorDataset(x, y), Linf(0.45 / 255)
    made = assay.evaluate(Sharp(), data, "fgsm", eps, tmp_path / "run", audit="off", doctor=False)
    found = export_images(made.run, tmp_path / "png", loader=made.loader)
    assert (found.images, found.broken, found.fooling) == (2, 2, 0)
    assert [row["still_fools"] for row in rows(found)] == ["false", "false"]
    assert [row["prediction"] for row in rows(found)] == ["0", "0"]
    exact = export_images(made.run, tmp_path / "npy", Choice("npy"), loader=made.loader)
    assert (exact.broken, exact.fooling) == (2, 2)
    assert np.array(Image.open(tmp_path / "png" / rows(found)[0]["file"])).shape == (2, 2)


def test_all_images_are_those_of_all_samples(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    found = export_images(run, tmp_path / "all", Choice("npy", "all", eps="10/255"), loader=loader)
    table = rows(found)
    assert sorted(map(at, table)) == list(range(N)) and {row["eps_written"] for row in table} == {"10/255"}
    (wrong,) = [row for row in table if row["status"] == "clean_wrong"]
    assert at(wrong) == 0 and float(wrong["size"]) == 0 and wrong["still_fools"] == "true"
    survived = [row for row in table if row["status"] == "survived"]
    assert survived and all(row["still_fools"] == "false" for row in survived)


def test_filters(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    (digest,) = run.cells
    found = export_images(
        run, tmp_path / "one", Choice("npy", cells=digest[:5], attacks=["fgsm"], eps=["0.1"]), loader=loader
    )
    assert {row["eps_written"] for row in rows(found)} == {"0.1"}
    for choice, told in (
        (Choice(cells=["zz"]), "No chosen cell has the cell 'zz'"),
        (Choice(attacks=["fgms"]), "Did you mean 'fgsm'?"),
        (Choice(models="x"), "There are: python:"),
        (Choice(data="x"), "There are: python:"),
        (Choice(eps=[0.2]), "No chosen cell has the budget 0.2; there are 10/255, 0.1"),
    ):
        with pytest.raises(BadInput) as refused:
            export_images(run, tmp_path / "none", choice, loader=loader)
        assert told in str(refused.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("settings", "told"), [({"form": "jpg"}, "Expected one of png, npy, safetensors"), ({"only": "b"}, "broken, all")]
)
def test_unknown_words(settings: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Choice(**settings)


def test_nothing_is_overwritten(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "index.csv").write_text("mine")
    with pytest.raises(BadInput, match=r"taken holds other files \(index.csv\). Nothing is overwritten"):
        export_images(run, tmp_path / "taken", loader=loader)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["index.csv"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="file is a file"):
        export_images(run, tmp_path / "file", loader=loader)
    first = export_images(run, tmp_path / "images", loader=loader)
    with pytest.raises(BadInput, match=r"holds another export \(different: only\)"):
        export_images(run, tmp_path / "images", Choice(only="all"), loader=loader)
    assert export_images(run, tmp_path / "images", loader=loader) == first


def test_a_stopped_export_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loader = evaluated(tmp_path / "run", threat=Linf(0.1), attacks=["fgsm", {"attack": "pgd", "steps": 2}])
    whole = export_images(run, tmp_path / "whole", Choice("npy"), loader=loader)
    worked, real = [], export.do

    def stopping(unit: Any, *rest: Any, **more: Any) -> Any:
        if len(worked) == 1:
            raise KeyboardInterrupt
        worked.append(unit)
        return real(unit, *rest, **more)

    monkeypatch.setattr(export, "do", stopping)
    with pytest.raises(KeyboardInterrupt):
        export_images(run, tmp_path / "cut", Choice("npy"), loader=loader)
    assert not (tmp_path / "cut" / "index.csv").exists()
    monkeypatch.setattr(export, "do", lambda unit, *rest, **more: (worked.append(unit), real(unit, *rest, **more))[1])
    cut = export_images(run, tmp_path / "cut", Choice("npy"), loader=loader)
    assert len(worked) == len({unit.cell.digest for unit in worked}) == 2, "no chunk is done twice"
    assert cut == dataclasses.replace(whole, folder=cut.folder, index=cut.index)
    assert cut.index.read_text() == whole.index.read_text()
    assert sorted(path.name for path in cut.folder.iterdir() if path.is_file()) == ["export.json", "index.csv"]


def test_results_that_differ_from_their_records_are_not_written(tmp_path: Path) -> None:
    run, loader = evaluated(tmp_path / "run", threat=Linf(0.1))
    store, (digest,) = run.store, run.cells
    path = store.shard(digest, 0)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    status = table["status"].to_pylist()
    survivor = status.index("survived")
    status[survivor] = "broken"
    pq.write_table(
        table.set_column(table.schema.names.index("status"), "status", pa.array(status)), path, store_schema=False
    )
    found = export_images(run, tmp_path / "images", Choice("npy"), loader=loader)
    assert found.differ == 1 and found.images == status.count("broken") - 1
    assert survivor not in map(at, rows(found))
    assert export_images(run, tmp_path / "images", Choice("npy"), loader=loader).differ == 1


def test_channels_that_a_png_cannot_hold(tmp_path: Path) -> None:
    run, loader = evaluated(tmp_path / "run", channels=2)
    with pytest.raises(BadInput, match="have 2 channels, and a PNG here has 1 or 3"):
        export_images(run, tmp_path / "png", loader=loader)
    found = export_images(run, tmp_path / "npy", Choice("npy"), loader=loader)
    assert np.load(tmp_path / "npy" / rows(found)[0]["file"]).shape[1:] == (2, 4, 4)


def test_what_no_file_holds_comes_from_the_program(made: tuple[Run, Loader], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"was given as a Python object.*evaluation\.export_images"):
        export_images(made[0], tmp_path / "images")


def test_another_model_is_refused(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    (spec,) = loader.models
    other = Brightest()
    with torch.no_grad():
        other.scale.mul_(2)
    loader = Loader(models={spec: dataclasses.replace(load_model(other), spec=spec)}, datasets=loader.datasets)
    with pytest.raises(BadInput, match="has weights"):
        export_images(run, tmp_path / "images", loader=loader)


def test_another_version_of_the_attack_is_refused(made: tuple[Run, Loader], tmp_path: Path) -> None:
    run, loader = made
    manifest = json.loads(json.dumps(run.manifest))
    for cell in manifest["cells"].values():
        cell["version"] = 99
    with pytest.raises(BadInput, match="made with version 99 of the attack fgsm"):
        export_images(dataclasses.replace(run, manifest=manifest), tmp_path / "images", loader=loader)


def test_a_model_that_fails(made: tuple[Run, Loader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loader = made

    def fail(self: nn.Module, x: Tensor) -> Tensor:
        raise ValueError("not today")

    monkeypatch.setattr(Brightest, "forward", fail)
    with pytest.raises(ExportFailed, match="failed: ValueError: not today"):
        export_images(run, tmp_path / "images", loader=loader)
