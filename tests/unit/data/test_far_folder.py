"""Folders of pictures in stores, by stores that need no server; a real S3 API is asked in tests/scale."""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from torch import nn

from assay.cli import main
from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.data.dataset import Data, image_digest
from assay.data.stores import objects, pieces
from assay.data.stores.pieces import _Guess
from assay.data.stores.place import Place, in_short, place_of
from assay.evaluation.run import Run
from assay.models.classifier import Classifier
from assay.models.weights_file import Unavailable
from tests.support.tar_shards import png, write_tar
from tests.support.tiny import run_here, study, write_model, write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    for at in range(40):
        place = root / ("cat", "dog")[at % 2] / ("deep/er" if at % 7 == 0 else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at:02d}.png").write_bytes(png(at, 70))
    (root / "dog" / "cut.png").write_bytes(png(50)[:80])
    (root / "dog" / "notes.txt").write_text("none")
    (root / "dog" / ".hidden.png").write_bytes(png(1))
    (root / ".thumbs").mkdir()
    (root / ".thumbs" / "a.png").write_bytes(png(1))
    (root / "loose.png").write_bytes(png(2, 70))
    (root / "empty").mkdir()
    return root


@pytest.fixture
def stored(folder: Path) -> Iterator[str]:
    """The same folder in a store, by its URL."""
    store = MemoryFileSystem()
    store.pipe(
        {f"/bucket/val/{one.relative_to(folder)}": one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    )
    store.makedirs("/bucket/val/empty", exist_ok=True)
    yield "memory://bucket/val"
    store.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSE", 0.001)


def failing(monkeypatch: pytest.MonkeyPatch, fail: Callable[[str, int], Any]) -> Counter[str]:
    """Let `fail(path, number of the try)` raise, or return other bytes, when the store is read; return the tries."""
    tries: Counter[str] = Counter()
    plain = MemoryFileSystem.cat_file
    lock = threading.Lock()

    def cat_file(self: MemoryFileSystem, path: str, start: Any = None, end: Any = None, **more: Any) -> Any:
        with lock:
            tries[path] += 1
            number = tries[path]
        instead = fail(path, number)
        return plain(self, path, start, end, **more) if instead is None else instead

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    return tries


def told_of(run: Run) -> list[dict[str, Any]]:
    """Return the records of a run without its times and the digest of its cell, which holds the name of the data."""
    table = run.records()
    table = table.drop_columns(["seconds", "cell"]).sort_by(
        [(one, "ascending") for one in ("attack", "eps", "sample_id")]
    )
    return [{**row, "data": None} if "data" in row else row for row in table.to_pylist()]


def told(data: Data) -> list[str]:
    return [image_digest(one.image) if isinstance(one, Sample) else one.error for one in data.load(range(len(data)))]


@pytest.mark.parametrize("kind", ["memory", "file", "slash"])
def test_everything_is_as_in_the_folder_on_this_machine(folder: Path, stored: str, kind: str) -> None:
    url = {"memory": stored, "file": f"file://{folder}", "slash": f"{stored}/"}[kind]
    here, there = load_data(f"folder:{folder}"), load_data(f"folder:{url}")
    assert len(here) == 41
    assert (here.ids, here.labels, here.classes) == (there.ids, there.labels, there.classes)
    assert here.fingerprint == there.fingerprint
    assert told(here) == told(there)
    assert here.notes == there.notes
    assert [one.advice.partition("?")[2] for one in here.renumberings] == [
        one.advice.partition("?")[2] for one in there.renumberings
    ]


def test_records_are_those_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, local = write_model(tmp_path), write_pictures(tmp_path / "pictures", 12)
    far = f"folder:file://{local.removeprefix('folder:')}"
    one, other = (
        run_here(tmp_path / name, study(model, source), executor=executor, workers=1)
        for name, source, executor in (("a", local, "serial"), ("b", far, "processes"))
    )
    assert len(one.records()) == 12 * 4 * 2
    assert told_of(one) == told_of(other)


def test_options_and_labels_of_a_model_are_read_as_for_a_folder(stored: str) -> None:
    model = Classifier(nn.Flatten(), classes=("dog", "cat"))
    assert load_data(f"folder:{stored}", model=model).labels[0] == 1
    assert load_data(f"folder:{stored}?order=reversed").labels[0] == 1
    with pytest.raises(BadInput, match="Unknown option 'ordr'"):
        load_data(f"folder:{stored}?ordr=reversed")
    splits = MemoryFileSystem()
    splits.pipe({f"/splits/{part}/{name}/1.png": png(1) for part in ("train", "val") for name in ("cat", "dog")})
    with pytest.raises(BadInput, match="Name one of them: folder:memory://splits/val"):
        load_data("folder:memory://splits")
    splits.rm("/splits", recursive=True)


def test_a_store_that_fails_for_a_while_is_asked_again(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = told(load_data(f"folder:{stored}"))

    def fail(path: str, number: int) -> bytes | None:
        if number == 1:
            raise OSError("503 Slow Down")
        return b"short" if number == 2 else None

    tries = failing(monkeypatch, fail)
    assert told(load_data(f"folder:{stored}")) == clean
    assert max(tries.values()) <= objects.TRIES + 2


def test_what_cannot_be_fetched_is_an_error_of_its_own(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(f"folder:{stored}")
    assert data.ids[5] == "cat/12.png"

    def fail(path: str, number: int) -> bytes | None:
        if path.endswith("/10.png"):
            raise OSError("503 Slow Down")
        if path.endswith("/12.png"):
            raise FileNotFoundError(path)
        return b"PNG" if path.endswith("/16.png") else None

    tries = failing(monkeypatch, fail)
    data = load_data(f"folder:{stored}")
    errors = {one.id: one.error for one in data.load(range(len(data))) if isinstance(one, Unreadable)}
    assert set(errors) == {"cat/10.png", "cat/12.png", "cat/16.png", "dog/cut.png"}
    assert errors["cat/10.png"] == "10.png: could not be fetched (5 tries): 503 Slow Down"
    assert errors["cat/12.png"] == "12.png: could not be fetched: it is not there any more"
    assert "3 bytes came, and" in errors["cat/16.png"]
    before = tries["/bucket/val/cat/12.png"]
    data.load([5])
    assert tries["/bucket/val/cat/12.png"] == before + 1  # no pointless tries
    monkeypatch.undo()
    assert isinstance(data.load([5])[0], Sample)  # an error is not kept


def test_no_store_and_nothing_in_it(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"There is nothing at memory://bucket/vall.*'val'|no files under .*vall.*'val'"):
        load_data("folder:memory://bucket/vall")
    with pytest.raises(BadInput, match=r"sftp2:// is no kind of store.*'sftp'"):
        load_data("folder:sftp2://host/val")
    with pytest.raises(BadInput, match="chain of stores"):
        load_data("folder:simplecache::memory://bucket/val")

    def deny(*given: Any, **more: Any) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "find", deny)
    with pytest.raises(BadInput, match=r"memory://bucket/val may not be read: Forbidden"):
        load_data(f"folder:{stored}")

    def silent(*given: Any, **more: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(MemoryFileSystem, "find", silent)
    with pytest.raises(Unavailable, match=r"does not answer \(5 tries\): no route"):
        load_data(f"folder:{stored}")
    monkeypatch.undo()


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*given: Any, **more: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(BadInput, match=r"s3fs is not installed.*pip install 'assay\[s3\]'"):
        load_data("folder:s3://bucket/val")
    with pytest.raises(BadInput, match=r"gcsfs is not installed.*pip install 'gcsfs'"):
        load_data("folder:gs://bucket/val")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIASECRET:abc@bucket/val",
        "https://tokensecret@host/val",
        "https://host/val?X-Amz-Signature=abc&X-Amz-Credential=AKIASECRET",
        "https://account.blob.core.windows.net/c/val?sv=2024&sig=tokensecret",
    ],
)
@pytest.mark.parametrize("scheme", ["folder:", "wds:", "hf-data:", "imagenet:"])
def test_credentials_in_names_are_refused_and_not_repeated(url: str, scheme: str) -> None:
    with pytest.raises(BadInput, match="in the environment") as caught:
        load_data(f"{scheme}{url}")
    assert not any(secret in str(caught.value) for secret in ("AKIASECRET", "tokensecret", "abc"))


def test_errors_of_libraries_lose_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    text = in_short(OSError("verysecret was refused at https://host/a?X-Amz-Signature=123\nand more"))
    assert text == "*** was refused at https://host/a?… and more"


def test_labels_can_be_predicted_and_imagenet_can_lie_in_a_store(stored: str) -> None:
    from assay.models.imagenet import imagenet_synsets

    store = MemoryFileSystem()
    synsets = imagenet_synsets()
    store.pipe({f"/in/val/{synsets[at]}/{at}.png": png(at) for at in (7, 300)})
    assert set(load_data("imagenet:memory://in/val").labels) == {7, 300}
    with pytest.raises(BadInput, match="imagenet:memory://in/val"):
        load_data("imagenet:memory://in")
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier(net, input_shape=(3, 70, 70))
    data = load_data(f"folder:{stored}", model=model, labels="predicted")
    assert "loose.png" in data.ids
    assert data.predicted
    store.rm("/in", recursive=True)


class TestReadAhead:
    @pytest.fixture
    def far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Place, "local", False)

    @pytest.mark.usefixtures("far")
    def test_the_next_chunk_is_fetched_while_this_one_is_used(
        self, stored: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = load_data(f"folder:{stored}", limit=30)
        read = self.read_of(data)
        tries = failing(monkeypatch, lambda path, number: None)
        read._begin()
        data.load(range(8))
        deadline = time.monotonic() + 5
        while len(tries) < 16 and time.monotonic() < deadline:
            time.sleep(0.005)
        names = {data.ids[at].rpartition("/")[2] for at in range(16)}
        assert {path.rpartition("/")[2] for path in tries} == names
        data.load(range(8, 16))
        assert max(tries.values()) == 1  # nothing is fetched twice

    @pytest.mark.usefixtures("far")
    def test_the_last_chunk_asks_for_nothing_behind_the_selection(
        self, stored: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = load_data(f"folder:{stored}", limit=10)
        read = self.read_of(data)
        tries = failing(monkeypatch, lambda path, number: None)
        read._begin()
        data.load(range(8, 10))
        time.sleep(0.05)
        assert len(tries) == 2

    @pytest.mark.usefixtures("far")
    def test_sixteen_are_under_way_together(self, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
        data = load_data(f"folder:{stored}", limit=32)
        self.read_of(data)._begin()
        wait = threading.Barrier(pieces.THREADS, timeout=10)

        def fail(path: str, number: int) -> None:
            wait.wait()

        failing(monkeypatch, fail)
        assert all(isinstance(one, Sample) for one in data.load(range(16)))

    @pytest.mark.usefixtures("far")
    def test_memory_is_bounded(self, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pieces, "KEPT", 60_000)
        data = load_data(f"folder:{stored}")
        read = self.read_of(data)
        for first in range(0, 40, 8):
            data.load(range(first, first + 8))
        deadline = time.monotonic() + 5
        while not all(one.done() for one in read._kept.values()) and time.monotonic() < deadline:
            time.sleep(0.005)
        held = sum(len(one.result()) for one in read._kept.values())
        assert held == read._size
        assert 0 < held <= 60_000 + 15_000

    def test_guesses_follow_the_steps_of_one_worker_and_of_several(self) -> None:
        one = _Guess()
        assert one.after(range(4), 20) == range(4, 8)
        assert one.after(range(4, 8), 20) == range(8, 12)
        several = _Guess()
        several.after(range(4), 40)
        assert several.after(range(8, 12), 40) == range(0)  # wrong once: no traffic on suspicion
        assert several.after(range(16, 20), 40) == range(24, 28)
        assert _Guess().after([3, 9, 1], 20) == range(0)

    def test_no_global_random_numbers_are_drawn(self, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
        before = random.getstate()

        def fail(path: str, number: int) -> None:
            if number == 1:
                raise OSError("503")

        failing(monkeypatch, fail)
        load_data(f"folder:{stored}").load(range(4))
        assert random.getstate() == before

    def test_data_travel_to_other_processes(self, stored: str) -> None:
        data = load_data(f"folder:{stored}")
        data.load(range(2))
        again = pickle.loads(pickle.dumps(data))
        assert told(again) == told(data)

    def read_of(self, data: Data) -> Any:
        return data.read.read.paths  # type: ignore[attr-defined]  # Selected, Pictures


def test_the_command_line_takes_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = write_pictures(tmp_path / "pictures", 8).removeprefix("folder:")
    files = sorted(Path(local).rglob("*.png"))
    members = [(f"{one.parent.name}/{one.name}", one.read_bytes()) for one in files]
    write_tar(tmp_path / "a.tar", members)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": one.read_bytes(), "path": None} for one in files], kind)
    labels = [int(one.parent.name) for one in files]
    pq.write_table(pa.table({"image": pictures, "label": labels}), tmp_path / "a.parquet")
    model = write_model(tmp_path)
    told = []
    given = (f"folder:{local}", f"folder:file://{local}", f"wds:{tmp_path}/a.tar", f"hf-data:{tmp_path}/a.parquet")
    names = ["image_digest", "label", "clean_prediction", "clean_confidence", "status"]
    for at, data in enumerate(given):
        out = tmp_path / f"run-{at}"
        command = ["run", "--model", model, "--data", data, "--attack", "pgd", "--norm", "linf", "--eps", "8/255"]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--out", str(out), "--audit", "off", "--display", "none"])
        assert ended.value.code == 0, capsys.readouterr().err
        rows = Run.open(out).records().sort_by("image_digest").to_pylist()
        told.append([tuple(row[name] for name in names) for row in rows])
    assert len(told[0]) == 8
    assert all(one == told[0] for one in told)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "ls"])
    listed = capsys.readouterr().out
    assert all(form in listed for form in ("folder:s3://", "wds:", "hf-data:"))


def test_places_are_named_as_stores_list_them() -> None:
    place = place_of("memory://bucket/val/", "folder:")
    assert place.relative("/bucket/val/a/b.png") == "a/b.png"
    assert place.url == "memory://bucket/val"
