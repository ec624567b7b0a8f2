"""Tables and files whose images have several labels: told apart from names with commas, and shown the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data.labels import columns_of_labels, lists_of_labels

WAY = r"goal=assay.MultiLabel\(y\)"


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["cat", "cat;dog", "dog"], "cat;dog"),
        (["cat|dog", "dog|bird", "bird|cat"], "cat|dog"),
        (["[0, 1]", "[1]", "[1, 2]"], "[0, 1]"),
        (["0 1", "1", "1 2"], "0 1"),
        (["['sea', 'sky']", "['sky']"], "['sea', 'sky']"),
        (["tench, Tinca tinca", "goldfish, Carassius auratus"], None),
        (["crane, bird", "crane", "maillot, tank suit", "maillot", "dog, hound"], None),
        (["great white shark", "white stork", "shark"], None),
        (["0", "1", "17"], None),
        (["class 1", "class 2"], None),
    ],
)
def test_lists_are_told_from_names(names: list[str], listed: str | None) -> None:
    assert lists_of_labels(names) == listed


def test_columns_of_zeros_and_ones() -> None:
    columns = {"cat": ["0", "1", "1"], "dog": ["1.0", "0.0", "0.0"], "age": ["1", "0", "3"], "note": ["", "1", "0"]}
    assert columns_of_labels(columns) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,label\n0.png,red;round\n1.png,round\n2.png,red\n", r"lists several labels: 'red;round'"),
        ("image,label\n0.png,red\n0.png,round\n1.png,red\n2.png,red\n", "both name '0.png'"),
        ("image,red,round\n0.png,1,1\n1.png,0,1\n2.png,1,0\n", "If red, round say which labels an image has"),
    ],
)
def test_tables_of_several_labels(tmp_path: Path, table: str, words: str) -> None:
    for i in range(3):
        Image.new("RGB", (8, 8), (80 * i, 10, 10)).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(BadInput, match=f"{words}.*{WAY}"):
        load_data(f"table:{tmp_path / 't.csv'}")


def test_arrays_of_several_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((4, 3, 5, 5), dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]))
    with pytest.raises(BadInput, match=WAY):
        load_data(f"npz:{tmp_path / 'a.npz'}")
    with pytest.raises(BadInput, match=WAY):
        load_data([(one, [0, 2]) for one in x])
