from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.audit.histogram import Histogram, histogram
from assay.core.errors import BadInput


def test_bins_by_hand() -> None:
    """An edge belongs to the bin above it, and the largest value to the last bin."""
    assert histogram(torch.tensor([0.0, 1.9, 2.0, 5.0, 6.0]), 2.0) == Histogram((0.0, 2.0, 4.0, 6.0), (2, 1, 2))


@pytest.mark.parametrize(
    ("largest", "width"), [(40.0, 1.0), (41.0, 2.0), (700.0, 20.0), (9.9, 0.5), (0.004, 0.0001), (0.0, 1.0)]
)
def test_the_width_is_a_round_number_of_the_data(largest: float, width: float) -> None:
    edges = histogram(torch.tensor([0.0, largest])).edges
    assert edges[1] - edges[0] == pytest.approx(width)
    assert edges[-1] >= largest * (1 - 1e-6)


@given(st.lists(st.floats(0, 1e6), max_size=50), st.none() | st.floats(100, 1e7))
def test_every_value_lies_in_the_bin_that_counts_it(values: list[float], width: float | None) -> None:
    found = histogram(torch.tensor(values, dtype=torch.float64), width)
    assert len(found.edges) == len(found.counts) + 1
    assert sum(found.counts) == len(values)
    for i, count in enumerate(found.counts[:-1]):
        assert count == sum(found.edges[i] <= v < found.edges[i + 1] for v in values)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_widths_that_make_no_histogram(width: float) -> None:
    with pytest.raises(BadInput, match=r"bin width is .*expected a positive width .* such as 5"):
        histogram(torch.tensor([1.0, 200.0]), width)
