from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import fsspec
import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.data.dataset import image_digest
from assay.data.stores.shard_names import expanded
from assay.models.classifier import Classifier
from tests.support.tar_shards import png, sample, write_tar

PETS = Classifier(nn.Flatten(), classes=("dog", "cat", "owl"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pair(tmp_path: Path) -> str:
    for shard in range(2):
        write_tar(
            tmp_path / f"val-{shard}.tar", [m for i in range(3) for m in sample(f"{i:03d}", 3 * shard + i, i % 2)]
        )
    return f"wds:{tmp_path}/val-{{0..1}}.tar"


def test_ids_labels_and_pixels_in_any_order(pair: str, tmp_path: Path) -> None:
    data = load_data(pair)
    assert data.ids == tuple(f"val-{shard}/00{i}" for shard in range(2) for i in range(3))
    assert data.labels == (0, 1, 0, 0, 1, 0)
    folder = tmp_path / "as-folder"
    for at in range(6):
        (folder / str(at % 3 % 2)).mkdir(parents=True, exist_ok=True)
        (folder / str(at % 3 % 2) / f"{at}.png").write_bytes(png(at))
    plain = load_data(f"folder:{folder}")
    want = {name.rpartition("/")[2][:1]: one for name, one in zip(plain.ids, plain.load(range(6)), strict=True)}
    for at in (5, 0, 3, 1):
        (got,) = data.load([at])
        expected = want[str(at)]
        assert isinstance(got, Sample)
        assert isinstance(expected, Sample)
        assert image_digest(got.image) == image_digest(expected.image)
        assert got.label == expected.label


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    for shard in range(2):
        members = [((f"{i:02d}.png", png(i, 60)), (f"{i:02d}.cls", b"0")) for i in range(30)]
        write_tar(tmp_path / f"{shard}.tar", [one for both in members for one in both])
    data = load_data(f"wds:{tmp_path}/{{0..1}}.tar")
    (tmp_path / "1.tar").unlink()
    first, last = data.load([1, 59])
    assert isinstance(first, Sample)
    assert isinstance(last, Unreadable)
    assert (last.id, last.error) == ("1/29", "1/29: could not be fetched: it is not there any more")


def test_the_index_is_kept_and_made_again_when_a_shard_changes(
    pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_data(pair)
    kept = sorted((tmp_path / "cache" / "shards").iterdir())
    assert len(kept) == 2
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", lambda *a, **k: pytest.fail("headers were read again"))
        again = load_data(pair)
    assert (again.ids, again.labels, again.fingerprint) == (before.ids, before.labels, before.fingerprint)
    kept[0].write_bytes(b"PAR1 damaged")
    assert load_data(pair).ids == before.ids
    write_tar(tmp_path / "val-1.tar", [m for i in range(4) for m in sample(f"{i:03d}", 30 + i, 1)])
    changed = load_data(pair)
    assert len(changed) == 7
    assert changed.fingerprint != before.fingerprint


def test_the_same_in_a_store_under_the_same_ids_and_fingerprint(pair: str, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe({f"/shards-here/val-{i}.tar": (tmp_path / f"val-{i}.tar").read_bytes() for i in range(2)})
    here, there = load_data(pair), load_data("wds:memory://shards-here/val-{0..1}.tar")
    assert (here.ids, here.labels, here.fingerprint) == (there.ids, there.labels, there.fingerprint)
    for one, other in zip(here.load(range(6)), there.load(range(6)), strict=True):
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert torch.equal(one.image, other.image)
    assert load_data("wds:memory://shards-here/val-*.tar").ids == here.ids
    store.rm("/shards-here", recursive=True)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path: Path, form: int) -> None:
    long = f"{'deep/' * 40}grüße {'x' * 120}"
    write_tar(tmp_path / "a.tar", sample(long, 1, 2) + sample("b", 2, 0), form)
    data = load_data(f"wds:{tmp_path}/a.tar")
    assert data.ids == (f"a/{long}", "a/b")
    assert data.labels == (2, 0)
    assert all(isinstance(one, Sample) for one in data.load([0, 1]))


def test_members_of_a_key_may_stand_apart(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("0.cls", b"5\n"), ("1.cls", b"07"), ("0.png", png(0))])
    data = load_data(f"wds:{tmp_path}/a.tar")
    assert dict(zip(data.ids, data.labels, strict=True)) == {"a/1": 7, "a/0": 5}


def test_a_key_that_stands_twice_is_an_error_of_its_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", sample("0", 0, 1) + sample("1", 1, 1) + sample("0", 2, 0))
    data = load_data(f"wds:{tmp_path}/a.tar")
    first, second = data.load([0, 1])
    assert isinstance(first, Unreadable)
    assert "stands twice" in first.error
    assert isinstance(second, Sample)
    assert any("1 keys stand twice" in note for note in data.notes)


def test_keys_without_a_label_or_a_picture_are_left_out_and_said(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar", [*sample("0", 0, 1), ("1.png", png(1)), ("2.cls", b"1"), ("3.png", png(3)), ("3.cls", b" ")]
    )
    data = load_data(f"wds:{tmp_path}/a.tar")
    assert data.ids == ("a/0",)
    assert any("2 keys without a label (cls) were left out: a/1, a/3" in note for note in data.notes)
    assert any("1 keys without a picture were left out: a/2" in note for note in data.notes)


def test_labels_by_class_name_json_folder_and_text(tmp_path: Path) -> None:
    names = ("dog", "cat", "dog")
    by = {
        "cls": [(f"{i}.cls", name.encode()) for i, name in enumerate(names)],
        "json": [(f"{i}.json", json.dumps({"label": name, "w": 3}).encode()) for i, name in enumerate(names)],
        "txt": [(f"{i}.txt", f"{name}\n".encode()) for i, name in enumerate(names)],
    }
    for kind, labels in by.items():
        write_tar(tmp_path / f"{kind}.tar", [*((f"{i}.png", png(i)) for i in range(3)), *labels])
    write_tar(tmp_path / "folder.tar", [(f"val/{name}/{i}.png", png(i)) for i, name in enumerate(names)])
    for kind in (*by, "folder"):
        data = load_data(f"wds:{tmp_path}/{kind}.tar", model=PETS)
        assert data.labels == (0, 1, 0), kind
        assert any(kind in note and "labels are read" in note for note in data.notes) == (kind != "cls")
    field = [(f"{i}.json", json.dumps({"made": i, "kind": name}).encode()) for i, name in enumerate(names)]
    write_tar(tmp_path / "field.tar", [*((f"{i}.png", png(i)) for i in range(3)), *field])
    with pytest.raises(BadInput, match=r"json\.FIELD"):
        load_data(f"wds:{tmp_path}/field.tar", model=PETS)
    assert load_data(f"wds:{tmp_path}/field.tar?label=json.kind", model=PETS).labels == (0, 1, 0)


def test_several_pictures_of_a_key_must_be_chosen_from(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("0.left.png", png(0)), ("0.right.png", png(1)), ("0.cls", b"1")])
    with pytest.raises(BadInput, match=r"2 pictures: left\.png, right\.png.*image=left\.png.*key=last-dot"):
        load_data(f"wds:{tmp_path}/a.tar")
    left, right = (load_data(f"wds:{tmp_path}/a.tar?image={side}.png").load([0])[0] for side in ("left", "right"))
    assert isinstance(left, Sample)
    assert isinstance(right, Sample)
    assert not torch.equal(left.image, right.image)
    with pytest.raises(BadInput, match=r"has a part 'lft\.png'.*left\.png"):
        load_data(f"wds:{tmp_path}/a.tar?image=lft.png")


def test_keys_with_dots_are_asked_about_never_guessed(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", sample("img.v1", 1, 1) + sample("img.v2", 2, 0))
    write_tar(tmp_path / "b.tar", sample("one.v1", 1, 1) + sample("two.v2", 2, 0))
    for name in ("a", "b"):
        with pytest.raises(BadInput, match="key=last-dot"):
            load_data(f"wds:{tmp_path}/{name}.tar")
    data = load_data(f"wds:{tmp_path}/a.tar?key=last-dot")
    assert (data.ids, data.labels) == (("a/img.v1", "a/img.v2"), (1, 0))


def test_a_compressed_shard_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", sample("0", 0, 1))
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(BadInput, match=r"b\.tar is compressed by gzip as a whole.*gunzip"):
        load_data(f"wds:{tmp_path}/{{a,b}}.tar")


def test_a_shard_cut_short_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", [m for i in range(4) for m in sample(str(i), i, i)]).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = tar.getmembers()
    last = members[-1]
    cuts = {members[4].offset_data + 100, members[4].offset + 200, last.offset_data, members[0].offset_data + 3}
    for cut in cuts:
        (tmp_path / "b.tar").write_bytes(whole[:cut])
        with pytest.raises(BadInput, match=r"b\.tar .*(cut short|no tar file)"):
            load_data(f"wds:{tmp_path}/{{a,b}}.tar")
    (tmp_path / "b.tar").write_bytes(whole[: members[4].offset])
    assert any("b has no end mark" in note for note in load_data(f"wds:{tmp_path}/b.tar").notes)


def test_a_damaged_header_is_no_end_of_the_shard(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [m for i in range(4) for m in sample(str(i), i, i)])
    with tarfile.open(path) as tar:
        at = tar.getmembers()[3].offset
    content = bytearray(path.read_bytes())
    content[at + 20] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"damaged after 3 members .*byte {at}"):
        load_data(f"wds:{path}")


def test_joined_shards_do_not_lose_their_second_half(tmp_path: Path) -> None:
    one, two = (write_tar(tmp_path / f"{i}.tar", sample(str(i), i, 0)).read_bytes() for i in range(2))
    (tmp_path / "joined.tar").write_bytes(one + two)
    with pytest.raises(BadInput, match="goes on behind its end mark"):
        load_data(f"wds:{tmp_path}/joined.tar")


def test_empty_shards_are_said_and_gaps_are_refused(pair: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "val-2.tar", [])
    (tmp_path / "val-3.tar").write_bytes(b"")
    data = load_data(f"wds:{tmp_path}/val-{{0..3}}.tar")
    assert len(data) == 6
    assert any("2 shards are empty: val-2, val-3" in note for note in data.notes)
    with pytest.raises(BadInput, match=r"2 of the 6 files .* are not there: val-4\.tar, val-5\.tar"):
        load_data(f"wds:{tmp_path}/val-{{0..5}}.tar")
    with pytest.raises(BadInput, match=r"There is nothing at .*val-7\.tar"):
        load_data(f"wds:{tmp_path}/val-7.tar")
    with pytest.raises(BadInput, match="no pictures"):
        load_data(f"wds:{tmp_path}/val-{{2..3}}.tar")


def test_other_files_and_folders_are_no_shards(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(png(0) * 20)
    with pytest.raises(BadInput, match="no tar file"):
        load_data(f"wds:{tmp_path}/a.tar")
    with pytest.raises(BadInput, match="is a folder"):
        load_data(f"wds:{tmp_path}")
    with pytest.raises(BadInput, match="names no file"):
        load_data("wds:")
    with pytest.raises(BadInput, match="Unknown option 'lable'"):
        load_data(f"wds:{tmp_path}/a.tar?lable=cls")


def test_links_are_followed_inside_a_shard_and_errors_where_they_leave_it(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [*sample("0", 0, 1), ("1.cls", b"1"), ("2.cls", b"1")])
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        for name, kind, target in (("1.png", tarfile.LNKTYPE, "0.png"), ("2.png", tarfile.SYMTYPE, "/etc/hosts")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    first, second, third = load_data(f"wds:{tmp_path}/a.tar").load(range(3))
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert torch.equal(first.image, second.image)
    assert isinstance(third, Unreadable)
    assert "link to /etc/hosts" in third.error


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("a", ["a"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{008..010}", ["008", "009", "010"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{train,val}-{0..1}", ["train-0", "train-1", "val-0", "val-1"]),
        ("x{{0..1},{5..6},9}y", ["x0y", "x1y", "x5y", "x6y", "x9y"]),
    ],
)
def test_braces_are_those_of_the_shell(written: str, names: list[str]) -> None:
    assert expanded(written) == names


@pytest.mark.parametrize("written", ["a{0..", "a{5..2}", "a{0...3}", "a{}", "a{0..9..0}", "a{0..99999999}"])
def test_braces_that_say_nothing_are_refused(written: str) -> None:
    with pytest.raises(BadInput):
        expanded(written)
