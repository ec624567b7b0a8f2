from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, load_data
from assay.models.classifier import Classifier

NAMES = ("one.png", "two.png", "sub/three.png", "sub/four.png")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(NAMES):
        Image.new("RGB", (5, 4), (10 * i, 0, 0)).save(tmp_path / name)
    return tmp_path


def write(place: Path, text: str, name: str = "t.csv") -> str:
    (place / name).write_text(text, encoding="utf-8")
    return f"table:{place / name}"


def rows(*labels: str, head: str = "image,label") -> str:
    return "\n".join([head, *(f"{name},{label}" for name, label in zip(NAMES, labels, strict=True))]) + "\n"


def test_every_format_gives_the_same(place: Path) -> None:
    found = [
        write(place, rows("b", "a", "b", "c")),
        write(place, rows("b", "a", "b", "c").replace(",", "\t"), "t.tsv"),
        write(place, "\ufeff" + rows("b", "a", "b", "c").replace(",", ";"), "semi.csv"),
        write(
            place,
            "".join(json.dumps({"image": n, "label": x}) + "\n\n" for n, x in zip(NAMES, "babc", strict=True)),
            "t.jsonl",
        ),
    ]
    pq.write_table(pa.table({"image": NAMES, "label": list("babc")}), place / "t.parquet")
    loaded = [load_data(one) for one in (*found, f"csv:{place / 't.csv'}", f"table:{place / 't.parquet'}")]
    for data in loaded:
        assert data.ids == NAMES
        assert data.labels == (1, 0, 1, 2)
        assert data.classes == ("a", "b", "c")
        assert data.fingerprint == loaded[0].fingerprint
        (sample,) = data.load([3])
        assert isinstance(sample, Sample)
        assert float(sample.image[0, 0, 0]) == pytest.approx(30 / 255)


def test_columns_are_named_or_guessed(place: Path) -> None:
    text = "id,other,species,aim\n" + "".join(
        f"{name.removesuffix('.png')},x,{label},{aim}\n"
        for name, label, aim in zip(NAMES, ("ant", "bee", "ant", "bee"), ("bee", "ant", "cow", "ant"), strict=True)
    )
    source = write(place, text)
    data = load_data(f"{source}?label=species&target=aim")
    assert (data.labels, data.targets, data.classes) == ((0, 1, 0, 1), (1, 0, 2, 0), ("ant", "bee", "cow"))
    assert load_data(f"{source}?label=species&target=aim", ids=[NAMES[2]]).targets == (2,)
    with pytest.raises(BadInput, match=r"has no column called label.*\?label=COLUMN.*id, other, species, aim"):
        load_data(source)
    with pytest.raises(BadInput, match=r"has no column 'specie'. Did you mean 'species'"):
        load_data(f"{source}?label=specie")


def test_paths_start_at_the_table_or_where_it_is_said(place: Path) -> None:
    text = "file,class\nthree.png,0\nfour,1\n"
    assert load_data(write(place, text)).ids == ("three.png", "four.png"), "the one folder that holds them all"
    assert load_data(f"{write(place / 'sub', text)}").labels == (0, 1)
    (place / "lists").mkdir()
    assert load_data(f"{write(place / 'lists', text)}?root=../sub").labels == (0, 1)
    with pytest.raises(BadInput, match=r"2 of the 2 pictures .* 'three.png' \(line 2\).*root=FOLDER"):
        load_data(write(place / "lists", text))
    with pytest.raises(BadInput, match="There is no folder"):
        load_data(f"{write(place / 'lists', text)}?root=nowhere")


def test_labels_are_read_as_class_folders_are(place: Path) -> None:
    model = Classifier(nn.Flatten(), classes=("red fox", "otter"))
    assert load_data(write(place, rows("otter", "Red_Fox", "otter", "otter")), model=model).labels == (1, 0, 1, 1)
    assert load_data(write(place, rows("1.0", "0.0", "7.0", "0.0"))).labels == (1, 0, 7, 0)
    with pytest.raises(BadInput, match=r"Column 'label' of t.csv.*'badger' is no class of the model"):
        load_data(write(place, rows("otter", "badger", "otter", "otter")), model=model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (rows("1", "", "0", " "), "2 of the 4 rows .* lines 3, 5"),
        (rows("1", "-1", "0", "0"), "has the label -1; labels count from 0"),
        ("image,label\none.png,1\none.png,2\n", "lines 2, 3 of t.csv both name 'one.png', with label '1' and '2'"),
        ("image,label\none.png,1\nfive.png,2\n", r"1 of the 2 pictures .*'five.png' \(line 3\)"),
        ("image,label\n,1\n", "line 2 names no picture"),
        ("image,label\n", "no rows below its header"),
        ("image,label\none.png,1,2\n", "Line 2 of t.csv has more values"),
        ("label,label\n1,1\n", "two columns called 'label'"),
        ("path,file,label\none.png,one.png,1\n", "several columns that may be the image"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_its_line(place: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_data(write(place, text))


def test_a_picture_that_is_there_twice_is_taken_once(place: Path) -> None:
    data = load_data(write(place, "image,label\none.png,1\ntwo.png,0\none.png,1\n"))
    assert data.ids == ("one.png", "two.png")
    assert any("1 rows of t.csv repeat a picture" in note for note in data.notes)


def test_files_that_are_no_tables(place: Path) -> None:
    with pytest.raises(BadInput, match="There is no table"):
        load_data("table:nowhere.csv")
    with pytest.raises(BadInput, match=r"ends in \.png; expected a table"):
        load_data(f"table:{place / 'one.png'}")
    with pytest.raises(BadInput, match=r"Line 2 of t.jsonl is no JSON"):
        load_data(write(place, '{"image": "one.png", "label": 1}\n{"image"\n', "t.jsonl"))
    (place / "t.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(BadInput, match="cannot be read"):
        load_data(f"table:{place / 't.parquet'}")
    np.savez(place / "a.npz", a=1)
    with pytest.raises(BadInput, match=r"Did you mean 't.csv'"):
        load_data(f"{write(place, rows('0', '1', '0', '1'))[:-1]}")


def test_an_order_of_classes(place: Path) -> None:
    write(place, rows("up", "down", "up", "down"))
    table = f"table:{place / 't.csv'}"
    assert load_data(table).labels == (1, 0, 1, 0)
    listed = load_data(f"{table}?order=up,left,down")
    assert (listed.labels, listed.classes) == ((0, 2, 0, 2), ("up", "left", "down"))
    assert f"{table}?order=reversed" in {one.advice for one in load_data(table).renumberings}
    with pytest.raises(BadInput, match=r"Column 'label' of t.csv, .*'up' is not in the order right,down"):
        load_data(f"{table}?order=right,down")


def test_labels_counted_from_one(place: Path) -> None:
    table = write(place, rows("3", "1", "2", "3"))
    assert load_data(table).labels == (3, 1, 2, 3)
    assert load_data(f"{table}?order=from-one").labels == (2, 0, 1, 2)


def test_pictures_are_looked_at_and_read_as_those_of_folders(place: Path) -> None:
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((4, 5), 1000 * (i + 1), "uint16")).save(place / name)
    table = write(place, rows("a", "b", "a", "b"))
    dark = load_data(table)
    (note,) = dark.about_pictures
    assert "they seem to hold 12 bits" in note
    assert f"Say {table}?white=4095" in note
    bright = load_data(f"{table}?white=4095")
    assert bright.about_pictures == ()
    assert bright.fingerprint != dark.fingerprint
    (sample,) = bright.load([1])
    assert isinstance(sample, Sample)
    assert float(sample.image[0, 0, 0]) == pytest.approx(2000 / 4095, abs=1 / 255)

    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (5, 4)).save(place / NAMES[0], exif=turned)
    assert "EXIF orientation" in load_data(table).about_pictures[0]
    (upright,) = load_data(f"{table}?orientation=apply").load([0])
    assert isinstance(upright, Sample)
    assert upright.image.shape == (3, 5, 4)
