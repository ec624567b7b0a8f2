from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput
from assay.paper.contents import contents, examples, read_probe, run_panels
from tests.support.fake_paper import digits_table, temperature
from tests.support.fake_run import fake_run

PROBE = {
    "n": 1000, "accuracy": 0.94, "zero": 0.9, "zero_in_double": None, "not_finite": 0.0,
    "gaps": {"0.05": 70.0, "0.5": 508.1, "0.95": None},
    "histogram": {"edges": [0.0, 50.0, 100.0], "counts": [40, 960]}, "saturated": {"16.6": 0.99},
}  # fmt: skip


def test_a_stored_probe_is_read_and_its_network_is_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "probe-mnist-cnn.json"
    path.write_text(json.dumps(PROBE))
    found = read_probe(path)
    assert (found.network, found.n, found.zero, found.zero_in_double) == ("mnist-cnn", 1000, 0.9, None)
    assert found.gaps == {0.05: 70.0, 0.5: 508.1}
    assert (found.edges, found.counts) == ((0.0, 50.0, 100.0), (40, 960))
    path.write_text(json.dumps({name: value for name, value in PROBE.items() if name != "histogram"}))
    assert read_probe(path).counts == ()


def test_panels_of_a_run_show_each_image_once(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    shown = run_panels(run, attacked=True)
    ids = {picture.sample_id for cell in run.cells for picture in run.gallery(cell)}
    assert len(shown) == len(ids)
    names = list(shown[0].images)
    assert names[0] == "original" and names[1].startswith("change × ") and names[2] == "after"
    original, _, after = shown[0].images.values()
    assert not torch.equal(original, after)
    assert shown[0].bars[0].share >= shown[0].bars[1].share
    assert [list(one.images) for one in run_panels(run, attacked=False)] == [[""]] * len(ids)


def test_what_is_in_a_directory_is_found(tmp_path: Path) -> None:
    fake_run(tmp_path / "table-iii-as-published", digits=60)
    fake_run(tmp_path / "table-xiv-corrected", scenes=False, digits=60)
    (tmp_path / "probe-mnist-cnn.json").write_text(json.dumps(PROBE))
    (tmp_path / "probe-half.json").write_text('{"n": 10')
    found = contents(tmp_path, views=[digits_table()], errata={"I": ("One.",)}, temperatures=[temperature(1)])
    assert [view.number for view in found.views] == ["XIV"] and found.errata == {"I": ("One.",)}
    assert list(found.panels) == [2] and found.panels[2][0].network
    assert [probe.network for probe in found.probes] == ["mnist-cnn"]
    assert len(found.logs) == 4 and len(found.temperatures) == 1
    assert len(found.commands) == len(set(found.commands)) == 1
    titles = [source.title for source in found.sources]
    assert titles.count("Model zoo:mnist-cnn") == 1 and "Machine and versions" in titles
    assert list(found.unfit) == [tmp_path / "table-iii-as-published"]


def test_an_empty_directory_has_logs_and_digits_alone(tmp_path: Path) -> None:
    found = contents(tmp_path / "nowhere")
    assert (found.views, found.panels, found.probes, found.sources, found.commands) == ((), {}, (), (), ())
    assert len(found.logs) == 4 and len(found.examples) == 9


def test_without_mnist_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **settings: object) -> None:
        raise BadInput("no network")

    monkeypatch.setattr("assay.load_data", fails, raising=False)
    found = contents(tmp_path)
    assert found.examples == {} and len(found.logs) == 4


def test_digits_stay_inside_each_budget_and_fall_at_the_largest() -> None:
    found = examples((0.0, 0.1, 0.3), many=3)
    clean = [one.image for one in found[0.0]]
    for eps, shown in found.items():
        far = max(float((one.image - image).abs().max()) for one, image in zip(shown, clean, strict=True))
        assert far == pytest.approx(eps, abs=1e-6)
    assert [one.predicted for one in found[0.0]] == [one.true for one in found[0.0]] == [7, 2, 1]
    assert all(one.predicted != one.true for one in found[0.3])
