from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput
from assay.paper.choices import Choices
from assay.paper.runs import table_runs
from assay.paper.tables import MODES


def names(*numbers: str, **chosen: object) -> list[str]:
    choices = Choices(Path("out"), **chosen)  # type: ignore[arg-type]
    return [str(one.directory) for one in table_runs(numbers, MODES, choices)]


def test_tables_that_share_a_study_share_its_run(imagenet: Path) -> None:
    assert names("I", "VIII", "VII", imagenet=imagenet) == [
        "out/table-i", "out/table-vii-as-published", "out/table-vii-corrected",
    ]  # fmt: skip
    first, *_ = table_runs(("VIII", "VII", "I"), MODES, Choices(Path("out"), imagenet))
    assert (first.tables, first.modes) == (("I",), MODES)


def test_digits_need_no_stand_in() -> None:
    assert names("IV", "XIII", stand_in=True) == [
        "out/table-iv-as-published-stand-in", "out/table-iv-corrected-stand-in",
        "out/table-xiii-as-published", "out/table-xiii-corrected",
    ]  # fmt: skip


def test_costly_attacks_and_pictures_are_runs_of_their_own() -> None:
    assert names("XIV") == [
        "out/table-xiv-as-published", "out/table-xiv-autoattack-as-published", "out/table-xiv-smallest",
        "out/table-xiv-corrected", "out/table-xiv-autoattack-corrected",
    ]  # fmt: skip
    _, _, smallest, *_ = table_runs(("XIV",), MODES, Choices(Path("out")))
    assert smallest.modes == MODES


def test_without_imagenet_it_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    with pytest.raises(BadInput) as caught:
        names("XIII", "IV", "V")
    told = str(caught.value)
    for words in (
        "Tables IV, V need ImageNet's",
        "ILSVRC2012_img_val.tar                 6.3 GB",
        "LOC_val_solution.csv",
        "https://image-net.org",
        "assay paper run --table IV --table V --imagenet imagenet/val",
        f"{tmp_path}/checkpoints/resnet101-63fe2227.pth  171 MB, https://download.pytorch.org",
        f"{tmp_path}/checkpoints/alexnet-owt-7be5be79.pth  233 MB, there already",
        "assay paper run --stand-in --table IV --table V",
    ):
        assert words in told
    assert "regnet" not in told


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"files": {"resnet50": Path("a")}}, "no network 'resnet50'. Did you mean 'resnet101'"),
        ({"limit": 0}, "--limit is 0"),
        ({"weights": "V3"}, "Unknown weights 'V3'"),
        ({"stand_in": True, "weights": "V2"}, "--stand-in brings its own"),
    ],
)
def test_choices_that_cannot_be(chosen: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Choices(Path("out"), **chosen)  # type: ignore[arg-type]


def test_a_file_that_is_not_there(imagenet: Path) -> None:
    (run, _) = table_runs(["IV"], MODES, Choices(Path("out"), imagenet, files={"resnet101": Path("none.pth")}))
    with pytest.raises(BadInput, match=r"There is no file none.pth \(from --model-file resnet101=none.pth\)"):
        run.study()
