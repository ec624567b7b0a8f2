from __future__ import annotations

from pathlib import Path

import pytest

from assay.paper.smallest import said, smallest_changes
from tests.support.fake_paper import smallest
from tests.support.tiny import write_model, write_pictures
from tests.unit.paper.test_views import measure

FEW = 4


def test_the_pictures_of_the_run_are_paired_by_image(tmp_path: Path) -> None:
    model, data = write_model(tmp_path), write_pictures(tmp_path / "pictures", FEW)
    other = tmp_path / "half.py"
    other.write_text(
        Path(model.rpartition(":")[0]).read_text() + "\n\ndef half():\n    from assay.models import Classifier\n"
        "    net = torch.nn.Sequential(Matcher(), torch.nn.LogSoftmax(1))\n"
        "    return Classifier(net, input_shape=(3, 8, 8))\n"
    )
    assert smallest_changes(tmp_path) == ()
    run = measure(tmp_path, "table-xiv-smallest", (model, data), models=[model, f"{other}:half"])
    found = smallest_changes(tmp_path)
    assert len(found) == FEW - 1  # the first picture is taken for another class without any change
    for one in found:
        assert list(one.changed) == [model, f"{other}:half"]
        for changed in one.changed.values():
            assert changed.predicted != one.true
            # pictures keep the change in half precision
            assert changed.size == pytest.approx(float((changed.image - one.image).norm()), rel=1e-2)
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"success"', '"cancelled"'))
    assert smallest_changes(tmp_path) == ()


def test_only_changes_that_are_no_larger_say_that_nothing_moved() -> None:
    assert said(()) == ""
    assert "moved no boundary" in said([smallest(0)])
    one = smallest(0)
    plain, other = one.changed.items()
    turned = type(one)(one.image, one.true, dict([other, plain]))
    assert said([turned]).endswith("1.50 on mnist-cnn.")
