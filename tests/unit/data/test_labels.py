from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.data.labels import Vocabulary, check_labels, find_class, label_folders
from assay.models.imagenet import imagenet_classes, imagenet_synsets

IMAGENET = Vocabulary(imagenet_classes(), imagenet_synsets())
PETS = Vocabulary(("dog", "cat", "great horned owl"))


def test_numbers_are_labels_themselves() -> None:
    assert label_folders(["10", "2"], None).label_of == {"10": 10, "2": 2}
    labelling = label_folders(["007", "1"], IMAGENET)
    assert labelling.label_of == {"007": 7, "1": 1}
    assert labelling.classes == IMAGENET.classes


def test_synsets_are_the_models_labels() -> None:
    labelling = label_folders(["n02012849", "n01440764"], IMAGENET)
    assert labelling.label_of == {"n02012849": 134, "n01440764": 0}
    assert labelling.notes == ()


@pytest.mark.parametrize("written", ["great horned owl", "Great_Horned_Owl", "great-horned-owl"])
def test_class_names_are_the_models_labels_not_alphabetical_ones(written: str) -> None:
    assert label_folders([written, "dog", "cat"], PETS).label_of == {written: 2, "dog": 0, "cat": 1}


def test_a_name_that_is_part_of_another_is_noted() -> None:
    notes = label_folders(["crane", "tench"], IMAGENET).notes
    assert notes == ("Folder 'crane' was taken for class 517 ('crane'), not 'crane bird'.",)
    assert len(label_folders(["tiger", "maillot"], IMAGENET).notes) == 2
    assert label_folders(["crane bird"], IMAGENET).notes == ()


def test_the_dog_and_the_garment_of_one_name() -> None:
    labelling = label_folders(["Cardigan", "cardigan"], IMAGENET)
    assert labelling.label_of == {"Cardigan": 264, "cardigan": 474}
    assert len(labelling.notes) == 2
    with pytest.raises(BadInput, match="Folder 'CARDIGAN' is no class"):
        label_folders(["CARDIGAN", "TENCH"], IMAGENET)


def test_without_a_model_folders_are_numbered_alphabetically() -> None:
    labelling = label_folders(["dog", "cat"], None)
    assert labelling.label_of == {"cat": 0, "dog": 1}
    assert labelling.classes == ("cat", "dog")


def test_names_unknown_to_the_model_are_numbered_with_a_note() -> None:
    labelling = label_folders(["b", "a"], PETS)
    assert labelling.label_of == {"a": 0, "b": 1}
    assert "numbered in alphabetical order" in labelling.notes[0]


def test_a_single_unknown_name_among_known_ones_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"Folder 'grate horned owl' is no class .*Did you mean 'great horned owl'"):
        label_folders(["dog", "grate horned owl"], PETS)
    with pytest.raises(BadInput, match="Folder 'n99999999' is no synset"):
        label_folders(["n01440764", "n99999999"], IMAGENET)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0", "3"], "Folder '3' has label 3; expected 0 to 2"),
        (["1", "01"], "same number"),
        (["a", "b", "c", "d"], "4 class folders, but the model has 3 classes"),
    ],
)
def test_labels_the_model_does_not_have(names: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        label_folders(names, PETS)


def test_no_two_classes_of_imagenet_are_confused_by_spelling() -> None:
    assert list(label_folders(list(IMAGENET.classes), IMAGENET).label_of.values()) == list(range(1000))


def test_labels_are_checked_against_the_class_count() -> None:
    check_labels([0, 2], 3, "x")
    for label in (-1, 3):
        with pytest.raises(BadInput, match=f"x has label {label}; expected 0 to 2"):
            check_labels([0, label], 3, "x")


def test_a_class_by_number_synset_or_name() -> None:
    classes, synsets = imagenet_classes(), imagenet_synsets()
    toaster = classes.index("toaster")
    for name in ("toaster", "Toaster", str(toaster), synsets[toaster]):
        assert find_class(name, 1000, classes, synsets) == (toaster, ())
    assert find_class("soap_dispenser", 1000, classes)[0] == classes.index("soap dispenser")
    label, notes = find_class("crane", 1000, classes, synsets)
    assert classes[label] == "crane"
    assert notes == (f"The target 'crane' was taken for class {label} ('crane'), not 'crane bird'.",)


@pytest.mark.parametrize(
    ("name", "says"),
    [("toster", "Did you mean 'toaster'"), ("1000", "the model has 1000 classes, 0 to 999"), ("-1", "Unknown target")],
)
def test_classes_that_are_not_there(name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        find_class(name, 1000, imagenet_classes(), imagenet_synsets())


def test_a_class_by_synset_where_names_are_unknown() -> None:
    assert find_class("n02", 3, None, ("n01", "n02", "n03")) == (1, ())
    assert find_class("2", 3, None) == (2, ())
    with pytest.raises(BadInput, match=r"Unknown target class 'n04'.* Give its number, 0 to 2"):
        find_class("n04", 3, None, ("n01", "n02", "n03"))


def test_two_classes_of_one_name_in_lower_case_are_told_apart() -> None:
    classes = imagenet_classes()
    assert find_class("cardigan", 1000, classes)[0] == 474 and find_class("Cardigan", 1000, classes)[0] == 264
    with pytest.raises(BadInput, match="Unknown target class 'CARDIGAN'"):
        find_class("CARDIGAN", 1000, classes)
