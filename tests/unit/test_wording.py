from __future__ import annotations

import pytest

from assay.wording import file_size, plural, rough_duration, without_surrogate


@pytest.mark.parametrize(("count", "text"), [(0, "0 cells"), (1, "1 cell"), (1000, "1,000 cells")])
def test_plural(count: int, text: str) -> None:
    assert plural(count, "cell") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (8.4, "8 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(312, "312 B"), (1500, "1.5 kB"), (12_300, "12 kB"), (3_400_000, "3.4 MB"), (2e9, "2.0 GB"), (5e12, "5.0 TB")],
)
def test_size(count: float, text: str) -> None:
    assert file_size(int(count)) == text


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("pgd(steps=5)", "pgd(steps=5)"),
        ("pgd(steps=5, surrogate=onnx:a.onnx?mean=0.5)", "pgd(steps=5, …)"),
        ("pgd(surrogate=zoo:mnist-cnn)", "pgd(…)"),
    ],
)
def test_a_surrogate_is_left_out_of_a_short_label(label: str, text: str) -> None:
    assert without_surrogate(label) == text
