"""Picture files of a store, as a sequence of their bytes: fetched in threads ahead of need, kept for a while."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from assay.data.dataset import PictureError
from assay.data.held import Held, HeldFiles
from assay.data.stores.objects import TRIES, is_final, read
from assay.data.stores.place import Place, in_short

THREADS = 16
KEPT = 256 * 2**20
"""Bytes of encoded files that are kept: an audit and the next attack ask for the same pictures again."""

_END = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A whole object, or `size` bytes of it from `start` on. `tag` names its content where the store's listing does.

    `problem` says why it cannot be used, where that is known beforehand.
    """

    path: str
    size: int | None
    tag: str
    start: int = 0
    whole: bool = True
    problem: str = ""


class _Threads:
    """Threads that end with the process, whatever they wait for: an interrupted run does not wait for a slow store."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        for _ in range(THREADS):
            threading.Thread(target=self._work, daemon=True, name="assay-store").start()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((future, task))
        return future

    def _work(self) -> None:
        while True:
            future, task = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)


_threads: _Threads | None = None
_making = threading.Lock()


def in_threads(tasks: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    """Start tasks, so many at a time."""
    global _threads
    with _making:
        if _threads is None or _threads.process != os.getpid():
            _threads = _Threads()
        return [_threads.submit(task) for task in tasks]


class _Guess:
    """Which samples are asked for next, by the steps between those asked for so far.

    One worker of several asks for every so-manieth chunk. A guess that was wrong is not acted upon until one would have
    been right.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._expected: int | None = None

    def after(self, asked: Sequence[int], count: int) -> range:
        """Return the positions to fetch beside those asked for, of so many samples; none of none."""
        start = asked[0]
        if not count or list(asked) != list(range(start, start + len(asked))):
            return range(0)
        step = start - self._last if self._last is not None and start > self._last else len(asked)
        sure = self._expected in (None, start)
        self._last, self._expected = start, start + step
        return range(min(start + step, count), min(start + step + len(asked), count)) if sure else range(0)


class FarFiles(HeldFiles):
    """Files of a store by position. `names` are what errors call them."""

    def __init__(self, place: Place, names: Sequence[str], pieces: Sequence[Piece]) -> None:
        self.place = place
        self.names = names
        self.pieces = pieces
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._size = 0
        self._guess = _Guess()

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "names": self.names, "pieces": self.pieces}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __len__(self) -> int:
        return len(self.pieces)

    def fetch(self, at: int) -> Held:
        """Return the file at a place from 0 on; see `HeldFiles`."""
        piece, name = self.pieces[at], self.names[at]
        if piece.problem:
            raise PictureError(f"{name}: {piece.problem}")
        try:
            return Held(name, self._content(at))
        except Exception as error:
            tried = "" if is_final(error) else f" ({TRIES} tries)"
            what = "it is not there any more" if isinstance(error, FileNotFoundError) else in_short(error)
            raise PictureError(f"{name}: could not be fetched{tried}: {what}") from error

    def _content(self, at: int) -> bytes:
        with self._lock:
            future = self._kept.get(at)
            if future is None:
                future = self._kept[at] = Future()
            self._kept.move_to_end(at)
        self._fill(at, future)
        try:
            return future.result()
        except BaseException:
            self._forget(at, future)
            raise

    def _fill(self, at: int, future: Future[bytes]) -> None:
        """Fetch a file, unless somebody has begun to: whoever needs one that still waits for a thread fetches it."""
        with self._lock:
            if future.running() or future.done():
                return
            future.set_running_or_notify_cancel()
        try:
            piece = self.pieces[at]
            content = read(self.place, piece.path, piece.start, piece.size, whole=piece.whole)
        except BaseException as error:
            future.set_exception(error)
            return
        future.set_result(content)
        with self._lock:
            self._size += len(content)
            self._make_room(at)

    def _make_room(self, newest: int) -> None:
        for at in list(self._kept):
            if self._size <= KEPT:
                return
            old = self._kept[at]
            if at != newest and old.done():
                del self._kept[at]
                self._size -= len(old.result()) if old.exception() is None else 0

    def _forget(self, at: int, future: Future[bytes]) -> None:
        # the next one who asks tries again
        with self._lock:
            if self._kept.get(at) is future:
                del self._kept[at]

    def ahead(self, asked: Sequence[int], position: Callable[[int], int], count: int) -> None:
        """Begin to fetch the samples that are asked for now, and those that probably are next.

        `asked` are samples of a selection of `count`, `position` says where each stands here.
        """
        if self.place.local or not asked:
            return
        for some in (asked, self._guess.after(asked, count)):
            self._begin_to_fetch([position(one) for one in some])

    def _begin_to_fetch(self, positions: Sequence[int]) -> None:
        room = KEPT // 2
        tasks = []
        with self._lock:
            for at in positions:
                piece = self.pieces[at]
                room -= piece.size or 0
                if room < 0:
                    break
                if at in self._kept or piece.problem:
                    continue
                future: Future[bytes] = Future()
                self._kept[at] = future
                tasks.append(_Task(self, at, future))
        in_threads(tasks)

    def content(self, positions: Sequence[int], reading: str) -> str:
        """Return a digest that names the files at these positions: by the listing, else by sizes and ends.

        `reading` says how they are read, where it is not as usual.
        """
        content = hashlib.blake2b(reading.encode(), digest_size=16)
        if self.tagged:
            for at in positions:
                piece = self.pieces[at]
                content.update(f"{piece.tag} {piece.start} {piece.size} ".encode())
            return content.hexdigest()
        for future in in_threads([_Ends(self, at) for at in positions]):
            content.update(future.result())
        return content.hexdigest()

    def named_by(self) -> tuple[str, ...]:
        """Say what the fingerprint of the data is made of, where it is not as on this machine."""
        if self.tagged:
            return (
                f"The fingerprint of the data is that of the listing of {self.place.url} (checksum and size of each "
                "file, as the store keeps them): the pictures were not read for it.",
            )
        return ()

    @property
    def tagged(self) -> bool:
        """Whether the listing names the content of every file."""
        return all(piece.tag for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class _Task:
    files: FarFiles
    at: int
    future: Future[bytes]

    def __call__(self) -> None:
        self.files._fill(self.at, self.future)


@dataclasses.dataclass(frozen=True)
class _Ends:
    """Size, first and last 4 KiB of a file: what a folder on this machine is named by."""

    files: FarFiles
    at: int

    def __call__(self) -> bytes:
        piece = self.files.pieces[self.at]
        place = self.files.place
        try:
            if piece.size is None or piece.size <= 2 * _END:
                held = self.files[self.at].content
                first, last, size = held[:_END], held[max(0, len(held) - _END) :], len(held)
            else:
                size, end = piece.size, piece.start + piece.size - _END
                first = read(place, piece.path, piece.start, _END, whole=False)
                last = read(place, piece.path, end, _END, whole=False)
        except Exception:
            return b"unreadable"
        return f"{size} ".encode() + first + last


class FarContent(Protocol):
    """Files held elsewhere that can say what names their content."""

    def content(self, positions: Sequence[int], reading: str) -> str:
        """Return a digest for the files at these positions."""


@dataclasses.dataclass(frozen=True)
class Named:
    """What names the content of files of a store, as a source asks for it."""

    files: FarContent
    reading: str = ""

    def __call__(self, positions: Sequence[int]) -> str:
        """Return the digest of the files at these positions."""
        return self.files.content(positions, self.reading)
