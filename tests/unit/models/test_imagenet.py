from __future__ import annotations

from timm.data import ImageNetInfo

from assay.models.imagenet import imagenet_classes, imagenet_synsets


def test_synsets_are_those_that_timm_lists() -> None:
    assert list(imagenet_synsets()) == ImageNetInfo("imagenet-1k").label_names()


def test_synsets_and_classes_are_in_one_order() -> None:
    synsets, classes = imagenet_synsets(), imagenet_classes()
    assert len(synsets) == len(classes) == len(set(synsets)) == len(set(classes)) == 1000
    assert list(synsets) == sorted(synsets)
    known = {"n01440764": "tench", "n02012849": "crane bird", "n03126707": "crane", "n15075141": "toilet tissue"}
    assert {synset: classes[synsets.index(synset)] for synset in known} == known
