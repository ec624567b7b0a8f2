from __future__ import annotations

import pytest

from assay.data.held import Held, HeldFiles
from assay.data.stores.parquet_rows import ParquetRows
from assay.data.stores.pieces import FarFiles


class Three(HeldFiles):
    def __len__(self) -> int:
        return 3

    def fetch(self, at: int) -> Held:
        assert 0 <= at < 3
        return Held(f"{at}.png", bytes([at]))


def test_files_are_had_by_place_as_in_any_sequence() -> None:
    files = Three()
    assert [one.name for one in files] == ["0.png", "1.png", "2.png"]
    assert files[-1] == files[2] and files[::-2] == [files[2], files[0]] and files[5:] == []
    for nowhere in (3, -4):
        with pytest.raises(IndexError):
            files[nowhere]


@pytest.mark.parametrize("kind", [ParquetRows, FarFiles])
def test_files_of_stores_say_how_one_is_fetched_and_nothing_of_places(kind: type[HeldFiles]) -> None:
    assert issubclass(kind, HeldFiles) and "__getitem__" not in vars(kind) and "fetch" in vars(kind)
