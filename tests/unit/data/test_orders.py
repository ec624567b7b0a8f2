from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from assay.core.errors import BadInput
from assay.data import load_data
from assay.data.class_orders import Folders, numbered, renumberings

TWELVE = tuple(map(str, range(12)))


def folders(*names: str, others: tuple[str, ...] = ()) -> Folders:
    return Folders(tuple(sorted(names)), (*names, *others))


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(root / name / "0.png")
    return root


@pytest.mark.parametrize(
    ("names", "order", "expected"),
    [
        (("2", "10", "1"), "number", {"1": 1, "2": 2, "10": 10}),
        (("2", "10", "1"), "from-one", {"1": 0, "2": 1, "10": 9}),
        (("2", "10", "1"), "imagefolder", {"1": 0, "10": 1, "2": 2}),
        (("2", "10", "1"), "natural", {"1": 0, "2": 1, "10": 2}),
        (("c10", "c9", "b"), "natural", {"b": 0, "c9": 1, "c10": 2}),
        (("b", "A", "C"), "alphabetical", {"A": 0, "C": 1, "b": 2}),
        (("b", "A", "C"), "caseless", {"A": 0, "b": 1, "C": 2}),
        (("no", "yes"), "reversed", {"yes": 0, "no": 1}),
        (("cat", "dog"), "dog, cat", {"dog": 0, "cat": 1}),
        (("cat", "dog"), "owl,dog,cat", {"dog": 1, "cat": 2}),
    ],
)
def test_orders(names: tuple[str, ...], order: str, expected: dict[str, int]) -> None:
    assert numbered(folders(*names), order)[0] == expected


def test_imagefolder_counts_empty_and_hidden_folders_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    pictures(tmp_path, "b", "d", ".ipynb_checkpoints")
    (tmp_path / "a").mkdir()
    theirs = ImageFolder(str(tmp_path), allow_empty=True).class_to_idx
    data = load_data(f"folder:{tmp_path}?order=imagefolder")
    assert data.labels == (theirs["b"], theirs["d"]) == (2, 3)
    assert data.classes == tuple(theirs)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "owl\ndog\n\ncat\n"),
        ("list.json", json.dumps(["owl", "dog", "cat"])),
        ("class_to_idx.json", json.dumps({"cat": 2, "dog": 1, "owl": 0})),
        ("index.json", json.dumps({"0": ["owl", "x"], "1": ["dog", "y"], "2": ["cat", "z"]})),
    ],
)
def test_an_order_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    labels, classes = numbered(folders("cat", "dog"), str(tmp_path / name))
    assert labels == {"cat": 2, "dog": 1}
    assert classes == ("owl", "dog", "cat")


@pytest.mark.parametrize(
    ("names", "order", "says"),
    [
        (("a", "b"), "imagfolder", "Did you mean 'imagefolder'"),
        (("a", "1"), "number", "one is called 'a'"),
        (("0", "1"), "from-one", "counts from 1, and there is a folder called 0"),
        (("a", "b"), "b,c", "folder 'a' is not in the order b,c"),
        (("a", "b"), "a,b,a", "'a' stands twice"),
    ],
)
def test_orders_that_do_not_fit(names: tuple[str, ...], order: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        numbered(folders(*names), order)


def test_a_file_that_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"cat": 0, "1": "dog"}')
    with pytest.raises(BadInput, match="no list of class names"):
        numbered(folders("cat", "dog"), str(tmp_path / "a.json"))


def test_other_orders_are_those_that_change_a_label() -> None:
    own = {name: int(name) for name in TWELVE}
    found = renumberings(folders(*TWELVE), own, lambda order: f"folder:d?order={order}")
    ways = {one.advice.partition("=")[2]: dict(one.new_label) for one in found}
    assert set(ways) == {"imagefolder", "reversed"}  # natural is the same, and there is a folder called 0
    assert ways["imagefolder"][2] == 4 and ways["imagefolder"][10] == 2
    assert renumberings(folders("only"), {"only": 0}, str) == ()


def test_numbers_that_imagefolder_would_order_otherwise_are_noted(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", *TWELVE)
    (note,) = load_data(f"folder:{root}").notes
    assert "ImageFolder" in note and f"folder:{root}?order=imagefolder" in note and "2 is its class 4" in note
    assert load_data(f"folder:{root}?order=number").notes == ()
    chosen = load_data(f"folder:{root}?order=imagefolder")
    assert dict(zip(chosen.ids, chosen.labels, strict=True))["10/0.png"] == 2
    assert chosen.classes == tuple(sorted(TWELVE))
    assert load_data(f"folder:{pictures(tmp_path / 'e', '0', '1', '2')}").notes == ()


def test_ids_stay_whatever_the_order(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", "cat", "dog")
    plain, turned = load_data(f"folder:{root}"), load_data(f"folder:{root}?order=reversed")
    assert plain.ids == turned.ids
    assert (plain.labels, turned.labels) == ((0, 1), (1, 0))
    assert plain.fingerprint != turned.fingerprint
    assert (plain.classes, turned.classes) == (("cat", "dog"), ("dog", "cat"))
