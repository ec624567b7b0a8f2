from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.data.dataset import image_digest
from assay.models.classifier import Classifier
from tests.support.tar_shards import png

PETS = Classifier(nn.Flatten(), classes=("dog", "cat", "owl"))
NAMES = ("cat", "dog", "owl")


def write(  # shape: a keyword for each thing that files differ in
    path: Path,
    seeds: Sequence[int],
    labels: Sequence[Any],
    *,
    names: Sequence[str] | None = NAMES,
    group: int = 2,
    picture: Any = None,
    others: dict[str, list[Any]] | None = None,
) -> Path:
    """Write a file as Hugging Face's library does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [picture(seed) if picture else {"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(pictures, kind), "label": pa.array(labels), **(others or {})})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "test-00000-of-00002.parquet", range(5), [0, 1, 2, 0, 1])
    write(tmp_path / "data" / "test-00001-of-00002.parquet", range(5, 8), [2, 0, 1])
    return tmp_path


def test_ids_names_and_pixels(split: Path, tmp_path: Path) -> None:
    data = load_data(f"hf-data:{split}")
    assert data.ids[:2] == ("test-00000-of-00002/0", "test-00000-of-00002/1")
    assert data.ids[-1] == "test-00001-of-00002/2"
    assert data.labels == (0, 1, 2, 0, 1, 2, 0, 1)
    assert data.classes == NAMES
    for at in (7, 0, 4, 5):
        (tmp_path / "p" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / "x" / "one.png").write_bytes(png(at))
        (got,), (want,) = data.load([at]), load_data(f"folder:{tmp_path}/p").load([0])
        assert isinstance(got, Sample)
        assert isinstance(want, Sample)
        assert image_digest(got.image) == image_digest(want.image)


def test_labels_go_by_the_names_of_the_model(split: Path) -> None:
    data = load_data(f"hf-data:{split}", model=PETS)
    assert data.labels == (1, 0, 2, 1, 0, 2, 1, 0)
    assert any("cat is 0 there and 1 here" in note for note in data.notes)
    assert load_data(f"hf-data:{split}?numbers=own", model=PETS).labels == (0, 1, 2, 0, 1, 2, 0, 1)
    same = Classifier(nn.Flatten(), classes=("Cat", "dog", "x"))
    assert load_data(f"hf-data:{split}", model=same).labels == (0, 1, 2, 0, 1, 2, 0, 1)
    other = Classifier(nn.Flatten(), classes=("dog", "cat", "bird"))
    with pytest.raises(BadInput, match=r"'cat' is 0 in the file and 1 in the model, and 'owl' is no class.*=own"):
        load_data(f"hf-data:{split}", model=other)
    foreign = Classifier(nn.Flatten(), classes=("a", "b", "c"))
    assert any("None of the 3 class names" in note for note in load_data(f"hf-data:{split}", model=foreign).notes)


def test_the_fingerprint_names_labels_and_pixels(split: Path) -> None:
    before = load_data(f"hf-data:{split}").fingerprint
    assert load_data(f"hf-data:{split}").fingerprint == before
    assert load_data(f"hf-data:{split}", limit=4).fingerprint != before
    file = split / "data" / "test-00001-of-00002.parquet"
    write(file, [5, 6, 99], [2, 0, 1])
    assert load_data(f"hf-data:{split}").fingerprint != before
    write(file, [5, 6, 7], [2, 0, 2])
    assert load_data(f"hf-data:{split}").fingerprint != before


def test_pictures_by_path_lie_beside_the_file_and_count_in_the_fingerprint(tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    write(tmp_path / "a.parquet", range(3), [0, 1, 2], picture=lambda seed: {"bytes": None, "path": f"{seed}.png"})
    data = load_data(f"hf-data:{tmp_path}/a.parquet")
    first, _, lost = data.load(range(3))
    assert isinstance(first, Sample)
    assert isinstance(lost, Unreadable)
    assert "2.png could not be read" in lost.error
    (tmp_path / "1.png").write_bytes(png(50))
    assert load_data(f"hf-data:{tmp_path}/a.parquet").fingerprint != data.fingerprint


def test_a_damaged_picture_is_an_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(3), [0, 1, 2],
          picture=lambda seed: {"bytes": png(seed)[: 40 if seed == 1 else None], "path": None})  # fmt: skip
    kinds = [type(one) for one in load_data(f"hf-data:{tmp_path}/a.parquet").load(range(3))]
    assert kinds == [Sample, Unreadable, Sample]


def test_splits_are_told_apart_and_asked_for(split: Path) -> None:
    write(split / "data" / "train-00000-of-00001.parquet", range(20, 22), [0, 1])
    with pytest.raises(BadInput, match=r"several splits: test, train.*split=test"):
        load_data(f"hf-data:{split}")
    assert len(load_data(f"hf-data:{split}?split=train")) == 2
    with pytest.raises(BadInput, match=r"no split 'tset'.*Did you mean 'test'"):
        load_data(f"hf-data:{split}?split=tset")


def test_names_of_files_that_are_alike_in_two_folders(tmp_path: Path) -> None:
    write(tmp_path / "a" / "test" / "0000.parquet", [0], [0])
    write(tmp_path / "b" / "test" / "0000.parquet", [1], [1])
    assert load_data(f"hf-data:{tmp_path}").ids == ("a/test/0000/0", "b/test/0000/0")


def test_the_same_in_a_store(split: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe({f"/pq/{one.name}": one.read_bytes() for one in (split / "data").iterdir()})
    here, there = load_data(f"hf-data:{split}"), load_data("hf-data:memory://pq")
    assert (here.ids, here.labels, here.fingerprint) == (there.ids, there.labels, there.fingerprint)
    for one, other in zip(here.load(range(8)), pickle.loads(pickle.dumps(here)).load(range(8)), strict=True):
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert torch.equal(one.image, other.image)
    store.rm("/pq", recursive=True)


def test_labels_as_words_and_none_at_all(tmp_path: Path) -> None:
    words = write(tmp_path / "a.parquet", range(3), ["owl", "dog", "cat"], names=None)
    assert load_data(f"hf-data:{words}", model=PETS).labels == (2, 0, 1)
    write(tmp_path / "b.parquet", range(2), [0, None])
    with pytest.raises(BadInput, match="Row 1 of the column 'label' is None"):
        load_data(f"hf-data:{tmp_path}/b.parquet")
    write(tmp_path / "c.parquet", range(2), [0, -1])
    with pytest.raises(BadInput, match="Row 1 of the column 'label' is -1"):
        load_data(f"hf-data:{tmp_path}/c.parquet")
    write(tmp_path / "d.parquet", range(2), [0, 3])
    with pytest.raises(BadInput, match="is 3, and the file names 3 classes"):
        load_data(f"hf-data:{tmp_path}/d.parquet")


def test_columns_that_cannot_be_told_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(2), [0, 1], names=None, others={"target": [1, 2], "thumb": [b"x", b"y"]})
    assert load_data(f"hf-data:{path}?label=target").labels == (1, 2)
    with pytest.raises(BadInput, match=r"no column 'lable'.*Did you mean 'label'"):
        load_data(f"hf-data:{path}?label=lable")
    with pytest.raises(BadInput, match="holds int64; expected pictures"):
        load_data(f"hf-data:{path}?image=label")
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match="no column of pictures"):
        load_data(f"hf-data:{tmp_path}/b.parquet")


def test_what_is_no_data_set_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"hf download --repo-type dataset owner/name"):
        load_data("hf-data:owner/name")
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    with pytest.raises(BadInput, match="to_parquet"):
        load_data(f"hf-data:{tmp_path}")
    path = write(tmp_path / "a.parquet", range(2), [0, 1])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadInput, match=r"a\.parquet is no Parquet file, or it is cut short"):
        load_data(f"hf-data:{path}")
