from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.data.spec import take_apart


def test_options_are_taken_off_a_name() -> None:
    assert take_apart("a/b.csv?image=path&label=class", {"image", "label"}) == (
        "a/b.csv",
        {"image": "path", "label": "class"},
    )
    assert take_apart("a/b", {"image"}) == ("a/b", {})


def test_a_folder_with_a_question_mark_in_its_name_has_no_options(tmp_path: Path) -> None:
    (tmp_path / "really?yes=no").mkdir()
    assert take_apart(f"{tmp_path}/really?yes=no", set()) == (f"{tmp_path}/really?yes=no", {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a?imge=b", "Did you mean 'image'"),
        ("a?image", "is no option"),
        ("a?image=", "is no option"),
        ("a?image=b&image=c", "twice"),
    ],
)
def test_slips_are_named(name: str, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        take_apart(name, {"image", "label"})
