from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from assay.data import load_data
from assay.data.folder_scan import pictures_under, scan
from assay.data.pictures import picture_endings, way_out


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_pictures_are_listed_by_folder_and_sorted_inside(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPG", "b/10.jpg", "a b/z.png", "a/x/1.webp", "a/0.png", "loose.png")
    found = scan(tmp_path)
    assert list(found.files_in) == ["a", "a b", "b"]
    assert found.files_in == {"a": ["a/0.png", "a/x/1.webp"], "a b": ["a b/z.png"], "b": ["b/10.jpg", "b/2.JPG"]}
    assert found.loose == ("loose.png",)
    assert found.pictures_in == {"a": 1, "a/x": 1, "a b": 1, "b": 2}
    assert found.notes == ()


def test_everything_left_out_is_counted_by_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.txt", "a/3.TXT", "a/README", "a/.hidden.png", "a/.DS_Store", "b/4.heix", "b/5.jpg")
    (note,) = scan(tmp_path).notes
    assert note.startswith("5 files were left out")
    for part in ("2 .txt", "1 without an ending", "1 .heix", "1 hidden"):
        assert part in note


def test_pictures_that_need_another_format_name_the_way_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.jxl", "a/3.npy")
    (note,) = scan(tmp_path).notes
    assert "convert .jxl to .png" in note
    assert "arrays in .npy" in note
    assert "assay[heif]" in way_out(".heic")


@pytest.mark.parametrize("name", ["3", "3.jpg_large", "3.dat"])
def test_pictures_without_their_ending_are_named_by_their_content(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a/1.png", "a/2.txt")
    (tmp_path / "a" / name).write_bytes(b"\xff\xd8\xff\xe0rest")
    (note,) = scan(tmp_path).notes
    assert f"a/{name} is a picture: let it end in .jpg" in note
    assert "a/2.txt is" not in note


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jp2", ".tga", ".qoi", ".dib"])
def test_whatever_pillow_reads_is_a_picture(ending: str, tmp_path: Path) -> None:
    assert ending in picture_endings()
    assert pictures_under(touch(tmp_path, f"a/1{ending.upper()}")) == [f"a/1{ending.upper()}"]


@pytest.mark.parametrize("ending", [".h5", ".mpg", ".pdf", ".eps", ".grib", ".txt"])
def test_formats_without_pixels_of_their_own_are_not(ending: str) -> None:
    assert ending not in picture_endings()


@pytest.mark.parametrize("target", ["..", "../..", ".", "../a"])
def test_a_link_in_a_circle_is_left_out_with_a_note(target: str, tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "a/0.png", "b/1.png")
    touch(tmp_path, "other/2.png")
    (root / "a" / "loop").symlink_to(target)
    found = scan(root)
    assert found.files_in == {"a": ["a/0.png"], "b": ["b/1.png"]}
    assert found.notes == ("1 links lead to folders that were read already; left out: a/loop.",)


def test_a_link_to_another_class_is_left_out_whichever_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "z/0.png", "m/1.png")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "m" / "more").symlink_to("../z")
    found = scan(tmp_path)
    assert found.files_in == {"a": [], "m": ["m/1.png"], "z": ["z/0.png"]}
    assert "2 links" in found.notes[0]


def test_links_to_elsewhere_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/one/0.png", "store/one/deep/1.png", "set/b/2.png")
    (tmp_path / "set" / "a").symlink_to("../store/one")
    (tmp_path / "set" / "b" / "again").symlink_to("../../store/one/deep")
    found = scan(tmp_path / "set")
    assert found.files_in == {"a": ["a/0.png", "a/deep/1.png"], "b": ["b/2.png"]}
    assert "b/again" in found.notes[0]


def test_one_picture_under_two_names_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "set/a/0.png", "store/9.png", "set/b/x.png")
    (tmp_path / "set/b/1.png").symlink_to("../a/0.png")
    (tmp_path / "set/b/2.png").symlink_to(tmp_path / "store/9.png")
    (tmp_path / "set/a/3.png").symlink_to("../../store/9.png")
    found = scan(tmp_path / "set")
    assert found.files_in["b"] == ["b/1.png", "b/2.png", "b/x.png"]  # they keep their ids
    (note,) = found.notes
    assert note.startswith("2 pictures are links to others of the set")
    assert "b/1.png is a/0.png" in note


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_folders_that_cannot_be_listed_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "a/secret/1.png")
    (tmp_path / "a/secret").chmod(0)
    try:
        assert "a/secret (Permission denied)" in scan(tmp_path).notes[0]
    finally:
        (tmp_path / "a/secret").chmod(0o700)


def test_notes_reach_the_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
        (tmp_path / name / "meta.csv").write_text("x")
    Image.new("RGB", (4, 4)).save(tmp_path / "stray.png")
    notes = load_data(f"folder:{tmp_path}").notes
    assert any("2 .csv" in note for note in notes)
    assert any("1 pictures lie in no class folder" in note and "stray.png" in note for note in notes)
