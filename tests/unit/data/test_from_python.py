from __future__ import annotations

from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.data import load_data

CODE = """
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from neighbour import COUNT
import assay

X, Y = torch.linspace(0, 1, COUNT * 48).reshape(COUNT, 3, 4, 4), torch.arange(COUNT) % 2


class Own(Dataset):
    def __len__(self):
        return COUNT

    def __getitem__(self, position):
        return X[position], int(Y[position])


def pairs():
    return X, Y


def loader():
    return DataLoader(TensorDataset(X, Y))


def loaded():
    return assay.load_data((X, Y), limit=5)


made = Own()
number = 3


def nothing():
    return None


def broken():
    return {}["no"]
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("COUNT = 6")
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("name", ["pairs", "loader", "loaded", "made", "Own"])
def test_whatever_gives_data_is_taken(code: Path, name: str) -> None:
    data = load_data(f"{code}:{name}", limit=4)
    assert data.source == f"{code}:{name}"
    assert data.labels == (0, 1, 0, 1)
    assert float(data.read(0)[0, 0, 0]) == 0
    assert float(data.read(3).max()) < 1


def test_other_code_is_other_content(code: Path) -> None:
    before = load_data(f"{code}:made").fingerprint
    assert load_data(f"{code}:made").fingerprint == before
    code.write_text(CODE + "\n# the same images, by other code\n")
    assert load_data(f"{code}:made").fingerprint != before


def test_a_module_is_found_by_name(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    assert len(load_data("mine:made")) == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mad", "has no 'mad'. Did you mean 'made'"),
        ("nothing", "returned None; expected a data set"),
        ("number", "int is no data set"),
        ("broken", "failed: KeyError: 'no'"),
    ],
)
def test_what_gives_no_data_is_refused(code: Path, name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_data(f"{code}:{name}")
