"""Folders, tar shards and Parquet behind a real S3 API and a web server, with failures on the way."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.data import Sample, Unreadable, load_data
from assay.data.dataset import Data, image_digest
from assay.data.stores import objects
from assay.evaluation.run import Run
from assay.models.weights_file import Unavailable
from tests.support.s3 import KEYS, Proxy, free_port, s3_server
from tests.support.tar_shards import png, sample, write_tar
from tests.support.tiny import run_here, study, write_model, write_pictures

pytestmark = [
    pytest.mark.scale,
    pytest.mark.timeout(300),
    # of the store's client, when its thread ends with the process
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        yield url


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The way to the store, for the client's environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    one = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", one.url)
    forget_clients()
    yield one
    one.stop()
    forget_clients()


def forget_clients() -> None:
    """Let the next client read its environment anew."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def put(folder: Path, bucket: str) -> str:
    """Copy a folder into a new bucket, and return its URL."""
    import s3fs

    store = s3fs.S3FileSystem()
    if store.exists(bucket):
        store.rm(bucket, recursive=True)
    store.mkdir(bucket)
    for one in sorted(folder.rglob("*")):
        if one.is_file():
            store.pipe_file(f"{bucket}/val/{one.relative_to(folder)}", one.read_bytes())
    store.invalidate_cache()
    return f"s3://{bucket}/val"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    for at in range(48):
        place = root / ("cat", "dog")[at % 2] / ("deep er" if at % 7 == 0 else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at:02d} ä+.png").write_bytes(png(at, 40))
    (root / "dog" / "cut.png").write_bytes(png(50)[:80])
    (root / "loose.png").write_bytes(png(2))
    return root


def told(data: Data) -> list[str]:
    return [image_digest(one.image) if isinstance(one, Sample) else one.error for one in data.load(range(len(data)))]


def records(run: Run) -> list[dict[str, object]]:
    table = run.records().drop_columns(["seconds", "cell", "data"])
    return list(table.sort_by([(one, "ascending") for one in ("attack", "eps", "sample_id")]).to_pylist())


def test_ids_labels_pixels_and_errors_are_those_of_the_folder(proxy: Proxy, folder: Path) -> None:
    url = put(folder, "same")
    here, there = load_data(f"folder:{folder}"), load_data(f"folder:{url}")
    assert (here.ids, here.labels, here.classes) == (there.ids, there.labels, there.classes)
    assert told(here) == told(there)
    assert any("listing of s3://same/val" in note for note in there.notes)


def test_the_fingerprint_reads_no_picture_and_follows_their_content(proxy: Proxy, folder: Path) -> None:
    url = put(folder, "finger")
    before = load_data(f"folder:{url}").fingerprint
    survey = len(proxy.gets)
    assert survey <= 24  # a look at a few, as in a folder
    assert load_data(f"folder:{url}").fingerprint == before
    (folder / "cat" / "02 ä+.png").write_bytes(png(99, 40))
    assert load_data(f"folder:{put(folder, 'finger')}").fingerprint != before


def test_records_are_those_of_the_folder_with_workers_and_failures(proxy: Proxy, tmp_path: Path) -> None:
    model, local = write_model(tmp_path), write_pictures(tmp_path / "pictures", 24)
    url = put(tmp_path / "pictures", "records")
    proxy.fault = lambda key, number: "503" if number == 1 else 0.02
    given = [study(model, one, chunk=4) for one in (local, f"folder:{url}")]
    one = run_here(tmp_path / "a", given[0], executor="serial")
    other = run_here(tmp_path / "b", given[1], executor="processes", workers=2)
    assert len(records(one)) == 24 * 4 * 2
    assert records(one) == records(other)
    kept = b"".join(file.read_bytes() for file in (tmp_path / "b").rglob("*") if file.is_file())
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in kept
    assert KEYS["AWS_ACCESS_KEY_ID"].encode() not in kept


@pytest.mark.parametrize("fault", ["503", "short", "drop"])
def test_a_store_that_recovers_changes_nothing(proxy: Proxy, folder: Path, fault: str) -> None:
    url = put(folder, "flaky")
    clean = told(load_data(f"folder:{url}"))
    proxy.gets.clear()
    proxy.fault = lambda key, number: fault if number <= 1 + len(key) % 2 else None
    assert told(load_data(f"folder:{url}")) == clean


@pytest.mark.parametrize("fault", ["503", "short", "drop"])
def test_what_never_comes_is_an_error_of_its_own(
    proxy: Proxy, folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    url = put(folder, "broken")
    proxy.fault = lambda key, number: fault if "/02 " in key or "/33 " in key else None
    data = load_data(f"folder:{url}")
    errors = {one.id: one.error for one in data.load(range(len(data))) if isinstance(one, Unreadable)}
    assert set(errors) == {"cat/02 ä+.png", "dog/33 ä+.png", "dog/cut.png"}
    assert "could not be fetched (5 tries)" in errors["cat/02 ä+.png"]
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(errors)
    assert KEYS["AWS_ACCESS_KEY_ID"] not in str(errors)
    proxy.fault = lambda key, number: None
    assert isinstance(data.load([data.ids.index("cat/02 ä+.png")])[0], Sample)


def test_an_object_that_is_gone_is_an_error_without_pointless_tries(proxy: Proxy, folder: Path) -> None:
    import s3fs

    url = put(folder, "gone")
    data = load_data(f"folder:{url}")
    at = data.ids.index("cat/08 ä+.png")
    s3fs.S3FileSystem().rm("gone/val/cat/08 ä+.png")
    data.read.read.paths._begin()  # type: ignore[attr-defined]  # what it keeps in memory is let go
    (lost,) = data.load([at])
    assert isinstance(lost, Unreadable)
    assert lost.error == "08 ä+.png: could not be fetched: it is not there any more"


def test_buckets_keys_and_servers_that_are_not_there(
    proxy: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "bucket")
    with pytest.raises(BadInput, match=r"no files under s3://bucket/vla.*'val'"):
        load_data("folder:s3://bucket/vla")
    with pytest.raises(BadInput, match="s3://no-such-bucket/val"):
        load_data("folder:s3://no-such-bucket/val")
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    forget_clients()
    with pytest.raises(Unavailable, match="s3://bucket/val does not answer"):
        load_data("folder:s3://bucket/val")
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", os.devnull)
    forget_clients()
    with pytest.raises(BadInput, match=r"may not be read.*AWS_ACCESS_KEY_ID"):
        load_data("folder:s3://bucket/val")


def test_tar_shards_are_indexed_by_ranges_and_read_in_any_order(proxy: Proxy, tmp_path: Path) -> None:
    root = tmp_path / "shards"
    for shard in range(3):
        members = [sample(f"{at:03d}", 10 * shard + at, at % 4) for at in range(10)]
        big = [
            (name, content + b"\0" * 40_000 if name.endswith("png") else content)
            for both in members
            for name, content in both
        ]
        write_tar(root / f"s-{shard}.tar", big)
    url = put(root, "shards")
    here, there = load_data(f"wds:{root}/s-{{0..2}}.tar"), load_data(f"wds:{url}/s-{{0..2}}.tar")
    assert (here.ids, here.labels) == (there.ids, there.labels)
    assert [told(here)[at] for at in (29, 3, 11)] == [told(there)[at] for at in (29, 3, 11)]
    proxy.gets.clear()
    assert load_data(f"wds:{url}/s-{{0..2}}.tar").ids == here.ids
    assert sum(proxy.gets.values()) <= 24  # the index is kept: nothing but a look at pictures
    with pytest.raises(BadInput, match=r"1 of the 4 files .* are not there: s-3\.tar"):
        load_data(f"wds:{url}/s-{{0..3}}.tar")


def test_the_index_of_large_members_reads_a_small_part(proxy: Proxy, tmp_path: Path) -> None:
    from assay.data.stores.place import place_of
    from assay.data.stores.tar_index import members_of

    write_tar(tmp_path / "big" / "a.tar", [(f"{at}.png", b"\1" * 1_000_000) for at in range(8)])
    place = place_of(f"{put(tmp_path / 'big', 'big')}/a.tar", "wds:")
    entry = objects.entry(place.path, place.fs.info(place.path))
    sizes: list[int] = []
    plain = place.fs.cat_file
    place.fs.cat_file = lambda *a, **k: (sizes.append(k["end"] - k["start"]), plain(*a, **k))[1]
    members, note = members_of(place, entry)
    assert ([one.size for one in members], note) == ([1_000_000] * 8, "")
    assert sum(sizes) < 300_000


def test_reading_ahead_hides_the_way_to_the_store(proxy: Proxy, folder: Path) -> None:
    url = put(folder, "ahead")
    proxy.fault = lambda key, number: 0.05
    data = load_data(f"folder:{url}", limit=48)

    def seconds(chunk: int, work: float) -> float:
        data.read.read.paths._begin()  # type: ignore[attr-defined]  # what it keeps in memory is let go
        began = time.perf_counter()
        for first in range(0, 48, chunk):
            data.load(range(first, first + chunk))
            time.sleep(work)
        return time.perf_counter() - began

    one_by_one = 48 * 0.05
    assert seconds(12, 0.5) < 4 * 0.5 + one_by_one / 2


class _Plain(SimpleHTTPRequestHandler):
    """Python's own server of files: no ranges, no checksums."""

    def log_message(self, *given: object) -> None:
        """Say nothing."""


def test_a_plain_web_server_serves_a_folder(tmp_path: Path, folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Plain, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/val"
        here, there = load_data(f"folder:{folder}"), load_data(f"folder:{url}")
        assert len(here) == 49
        assert (here.ids, here.labels) == (there.ids, there.labels)
        assert here.fingerprint == there.fingerprint
        assert told(here) == told(there)
        with pytest.raises(BadInput, match="no files under http"):
            load_data(f"folder:{url}-not")
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_in_a_bucket_is_shown_and_fetched_once(proxy: Proxy, tmp_path: Path) -> None:
    from tests.support.many_records import cells_of, many_records

    here = tmp_path / "run"
    cells = cells_of(2, n=200, budgets=3, chunk=64)
    many_records(here, cells)
    url = put(here, "runs")
    # a flaky store is asked again
    proxy.fault = lambda key, number: "503" if number == 1 else None
    far, near = Run.open(url), Run.open(here)
    assert far.results() == near.results() and far.worst_case() == near.worst_case() and far.gaps() == []
    fetched = sum(proxy.gets.values())
    assert Run.open(url).results() == near.results()
    objects_got = sum(count for key, count in proxy.gets.items() if ".parquet" in key)
    assert objects_got == 2 * 8, "each twice at most: the first try failed"
    assert sum(proxy.gets.values()) - fetched <= 2
    with pytest.raises(BadInput, match=r"s3://runs/none"):
        Run.open("s3://runs/none")
