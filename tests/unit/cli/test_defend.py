from __future__ import annotations

import re
from pathlib import Path

import pytest

import assay
from tests.support.workplace import Workplace

FIT = "defend fit zoo:mnist-cnn|margin:fpr=0.1 --data mnist/train --limit 80 --display plain"


def test_a_fit_says_what_it_found_and_how_it_is_used(place: Workplace) -> None:
    said = place.assay(FIT, "--held-out", "50", "--out", "own.safetensors")
    assert said.code == 0, said.err
    assert said.out == "own.safetensors\n" and Path("own.safetensors").is_file()
    assert "Fitted on 80 images of mnist/train. Use none of them to measure it." in said.err
    # 5 of 50, by Clopper and Pearson
    assert "Asked for 10 % of clean images; by 50 held-out ones it is 3.3 to 21.8 % (95 % interval)." in said.err
    spec = re.search(r"Use it with: --model '(.*)'", said.err)
    assert spec is not None and spec[1] == "zoo:mnist-cnn|margin:fpr=0.1,file=own.safetensors"
    model = assay.load_model(spec[1])
    assert f"Digest {model.digest}" in said.err and model.rejects
    again = place.assay(FIT, "--held-out", "50", "--out", "own.safetensors")
    assert again.code == 0 and "This was fitted before; nothing was done." in again.err
    other = place.assay(FIT, "--held-out", "40", "--out", "own.safetensors")
    assert other.code == 0 and "nothing was done" not in other.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            "defend fit zoo:mnist-cnn --data mnist/train",
            "names no defence; write for example 'zoo:mnist-cnn|max-softmax'",
        ),
        (f"{FIT} --out fit.pt", "what was fitted is a .safetensors file"),
        (f"{FIT} --held-out 81", "81 images to be held out for thresholds, of 80 in mnist/train"),
        ("defend fit zoo:mnist-cnn|magnett --data mnist/train", "Did you mean 'magnet'?"),
        ("defend fit zoo:mnist-cnn|margin:fpr=1.5 --data mnist/train", "expected a share between 0 and 1"),
    ],
)
def test_slips_are_answered(place: Workplace, arguments: str, told: str) -> None:
    said = place.assay(arguments)
    assert said.code == 2 and told in " ".join(said.err.split())
