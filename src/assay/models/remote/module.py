"""An endpoint as a module of torch: rows that were answered before are free, the others go out in requests."""

from __future__ import annotations

import dataclasses
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, ModelError
from assay.models.remote.client import Client, EndpointError, Reply, Rows
from assay.models.remote.ledger import CANARIES, Ledger, QueriesSpent, current
from assay.models.remote.place import Place, asking, fresh, is_fresh, key_of
from assay.models.remote.place import place as asked_place
from assay.spending import Spent, allowed

_ALIKE = 1e-3
"""By how much of the largest score two answers of one model may differ: machines round, and batches differ."""


class Endpoint(nn.Module):
    """What a client asks, as a module: images `[N, C, H, W]` in [0, 1] -> scores float32 `[N, K]`, without gradients.

    `labels` is the number of classes of an endpoint that answers class numbers: those become 1 for the class and -1 for
    the others. Equal rows of one call are asked once, and none that the ledger knows (see `ledger.current`; where none
    is in use, one of this module's own, in memory). Every answer is in the ledger before it is returned. The
    answers of a `random` endpoint are kept for the moment they were drawn at alone: the same study draws them again
    only where it was not there yet.

    It may stand in for the `answer` of `Deployed`: given an array, it returns one.
    """

    outside = True
    """Whoever asks it pays: nothing may be tried out on it."""

    def __init__(self, client: Client, labels: int | None = None, *, random: bool = False) -> None:
        super().__init__()
        self.client = client
        self.labels = labels
        self.random = random
        self.own = Ledger()
        self._crew = _Crew(client.limits.parallel)

    @property
    def classes(self) -> int | None:
        """The number of classes, where it is known before the first answer."""
        return self.labels if self.labels is not None else getattr(self.client, "classes", None)

    def forward(self, x: Any) -> Any:
        """Return the endpoint's scores. Raises `QueriesSpent`, and what the client raises."""
        if isinstance(x, Tensor):
            rows = np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())
            return torch.from_numpy(self._scores(rows)).to(x.device)
        return self._scores(np.ascontiguousarray(x, np.float32))

    def extra_repr(self) -> str:
        """Say nothing that may change: what it answers from is said by the classifier's `identity`."""
        return f"labels={self.labels}" if self.labels is not None else ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint:
        # a copy would be the same server, with another count of what it may be asked
        return self

    def recheck(self) -> str:
        """Ask a few rows again that were answered before the run was stopped; return how answers differ, or "".

        Nothing is asked where answers are drawn, and where what is left does not suffice.
        """
        ledger = current() or self.own
        known = [] if self.random else ledger.canaries(self.client.identity)
        most = allowed(self.client.limits)
        left = None if most is None else most - ledger.total(self.client.identity).billed
        if not known or (left is not None and left < len(known)):
            return ""
        before = np.stack([answer for _, answer in known])
        with asking("check"), fresh():
            now = self._answers(np.stack([row for row, _ in known]))
        return self._difference(before, now)

    def _difference(self, before: Rows, now: Rows) -> str:
        if before.shape != now.shape:
            return f"{now.shape[1]} scores, {before.shape[1]} before"
        if self.labels is not None:
            changed = (before != now).any(1)
            return f"class {int(now[changed][0, 0])}, {int(before[changed][0, 0])} before" if changed.any() else ""
        size = float(np.abs(before).max(initial=0, where=np.isfinite(before))) or 1.0
        other = (now != before) & ~(np.isnan(now) & np.isnan(before))
        apart = float(np.abs(now - before)[other].max(initial=0))
        # written so that a number and NaN differ
        return "" if apart <= _ALIKE * size else f"scores that differ by {apart:.3g} (of at most {size:.3g})"

    def _scores(self, rows: Rows) -> Rows:
        answers = self._answers(rows)
        if self.labels is None:
            return answers
        if answers.shape[1] != 1 or not ((answers >= 0) & (answers < self.labels) & (answers % 1 == 0)).all():
            raise ModelError(
                f"The endpoint {self.client.host} answered {list(answers.shape)} values such as {answers.flat[0]:g}, "
                f"expected one class number from 0 to {self.labels - 1} for each of {len(answers)} images."
            )
        scores = np.full((len(answers), self.labels), -1, np.float32)
        scores[np.arange(len(answers)), answers[:, 0].astype(np.int64)] = 1
        return scores

    def _answers(self, rows: Rows) -> Rows:
        """Return what the endpoint answers to each row, float32 `[N, K]`: from the ledger, or from requests."""
        if not len(rows):
            return np.zeros((0, self.classes or 0), np.float32)
        asked_for = asked_place()
        place = asked_for.name if asked_for else ""
        call = _Call(self.client, self.client.identity, current() or self.own, place)
        keys = self._keys(call, rows, asked_for or call.ledger.unnamed)
        first = {key: at for at, key in reversed(list(enumerate(keys)))}
        call.ledger.count_asked(call.identity, place, len(rows))
        if is_fresh():
            return self._fresh(call, keys, rows)
        found = call.ledger.known(list(first))
        lacking = sorted(at for key, at in first.items() if key not in found)
        for batch in self._in_requests(lacking, lambda batch: call.ask(batch, keys, rows, canary=not self.random)):
            found.update(batch)
        return self._stacked([found[key] for key in keys])

    def _fresh(self, call: _Call, keys: Sequence[bytes], rows: Rows) -> Rows:
        # each row on its own, whether known or equal to another: answers by place, which the ledger may know otherwise
        told: dict[int, Rows] = {}
        for batch in self._in_requests(range(len(rows)), lambda batch: call.ask_again(batch, keys, rows)):
            told.update(batch)
        return self._stacked([told[at] for at in range(len(rows))])

    def _keys(self, call: _Call, rows: Rows, asked_for: Place) -> list[bytes]:
        # one at a time: what they are on the wire is as large as they are
        contents = (self.client.content(row) for row in rows)
        if not self.random:
            return [key_of(call.identity, content) for content in contents]
        keys = []
        for content in contents:
            short = key_of("", content)
            keys.append(key_of(call.identity, content, asked_for, asked_for.times[short]))
            asked_for.times[short] += 1
        return keys

    def _in_requests(self, rows: Sequence[int], ask: Callable[[Sequence[int]], Any]) -> Iterator[Any]:
        size = max(1, self.client.limits.batch)
        batches = [rows[at : at + size] for at in range(0, len(rows), size)]
        yield from self._crew.do([(ask, batch) for batch in batches])

    def _stacked(self, answers: list[Rows]) -> Rows:
        widths = {len(one) for one in answers}
        if len(widths) > 1:
            low, high = min(widths), max(widths)
            raise ModelError(
                f"The endpoint {self.client.host} answers with {low} scores and with {high}, expected as many for "
                "every image. Has its model changed? Begin a new run directory (--out)."
            )
        return np.stack(answers)


@dataclasses.dataclass(frozen=True)
class _Call:
    """The requests of one call of the module."""

    client: Client
    identity: str
    ledger: Ledger
    place: str

    def ask(self, batch: Sequence[int], keys: Sequence[bytes], rows: Rows, *, canary: bool) -> dict[bytes, Rows]:
        """Send one request for some rows, keep the answers, and return them by key."""

        def keep(granted: Sequence[int], reply: Reply, spent: Spent) -> dict[bytes, Rows]:
            told = {keys[at]: scores for at, scores in zip(granted, reply.scores, strict=True)}
            kept = self.ledger.write(self.identity, self.place, told, spent)
            if canary:
                for at in granted[:CANARIES]:
                    self.ledger.keep_canary(self.identity, keys[at], rows[at])
            return kept

        kept: dict[bytes, Rows] = self._sent(batch, rows, keep)
        return kept

    def ask_again(self, batch: Sequence[int], keys: Sequence[bytes], rows: Rows) -> dict[int, Rows]:
        """Send one request for some rows, and return the answers by row; those not known before are kept."""

        def keep(granted: Sequence[int], reply: Reply, spent: Spent) -> dict[int, Rows]:
            told = {keys[at]: scores for at, scores in zip(granted, reply.scores, strict=True)}
            self.ledger.write(self.identity, self.place, told, spent)
            return dict(zip(granted, reply.scores, strict=True))

        told: dict[int, Rows] = self._sent(batch, rows, keep)
        return told

    def _sent(self, batch: Sequence[int], rows: Rows, keep: Callable[[Sequence[int], Reply, Spent], Any]) -> Any:
        most, identity = allowed(self.client.limits), self.identity
        granted = batch[: self.ledger.reserve(identity, self.place, len(batch), most)]
        kept = {}
        if granted:
            n = len(granted)
            try:
                reply = self.client.ask(_of(rows, granted))
                scores = self._checked(reply.scores, n)
            except EndpointError as error:
                # what was not sent, or refused, is not billed
                spent = Spent(0, n * (error.doubtful - 1), error.tries, max(0, error.tries - 1))
                self.ledger.settle(identity, self.place, spent)
                raise
            except AssayError:
                # an answer that is none was answered
                self.ledger.settle(identity, self.place, Spent(requests=1))
                raise
            spent = Spent(0, n * reply.doubtful + reply.extra, reply.retries + 1, reply.retries)
            kept = keep(granted, dataclasses.replace(reply, scores=scores), spent)
        if len(granted) < len(batch):
            raise self._spent(most or 0)
        return kept

    def _checked(self, scores: Any, n: int) -> Rows:
        answer = np.asarray(scores, np.float32)
        if answer.ndim != 2 or len(answer) != n or not answer.shape[1]:
            raise ModelError(
                f"The endpoint {self.client.host} answered {list(answer.shape)} for {n} images, expected [{n}, K]: one "
                "row of scores per image."
            )
        return answer

    def _spent(self, most: int) -> QueriesSpent:
        limits, total = self.client.limits, self.ledger.total(self.identity)
        cost = f", which cost {limits.price * total.billed:.6g} {limits.currency}".rstrip() if limits.price else ""
        by_money = limits.budget is not None and (limits.queries is None or most < limits.queries)
        what = f"budget={limits.budget:g}" if by_money and limits.budget is not None else f"queries={limits.queries}"
        return QueriesSpent(
            f"{self.client.host} may be asked no more: {what} allows {most:,} queries, and {total.billed:,} are spent"
            f"{cost} ({total.asked:,} rows were asked about, the others were known). What is finished and every answer "
            "are kept: the same command with a higher limit goes on."
        )


def _of(rows: Rows, places: Sequence[int]) -> Rows:
    """Return the rows at ascending places: where those follow each other without a copy, which takes a while."""
    first, last = places[0], places[-1]
    return rows[first : last + 1] if last - first + 1 == len(places) else rows[list(places)]


class _Crew:
    """Threads that send requests, kept for the next call; they end with whoever holds the crew, or the process.

    They are daemons: who stops a run does not wait for answers.
    """

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._lock = threading.Lock()

    def do(self, calls: Sequence[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
        """Return what the calls return, in their order.

        After a failure no further one begins; those under way are waited for, and the first failure in order raised.
        """
        if self._size == 1 or len(calls) < 2:
            return [call(argument) for call, argument in calls]
        jobs, done = self._started(), _Answers(len(calls))
        for at, (call, argument) in enumerate(calls):
            jobs.put(done.job(at, call, argument))
        return done.wait()

    def _started(self) -> queue.SimpleQueue[Callable[[], None] | None]:
        with self._lock:
            if self._jobs is None:
                self._jobs = queue.SimpleQueue()
                for _ in range(self._size):
                    threading.Thread(target=_serve, args=(self._jobs,), daemon=True).start()
                weakref.finalize(self, _dismiss, self._jobs, self._size)
            return self._jobs


def _serve(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # it holds images


def _dismiss(jobs: queue.SimpleQueue[Callable[[], None] | None], size: int) -> None:
    for _ in range(size):
        jobs.put(None)


class _Answers:
    """What the jobs of one call came to."""

    def __init__(self, count: int) -> None:
        self._results: list[Any] = [None] * count
        self._errors: dict[int, BaseException] = {}
        self._stopped = False
        self._left = threading.Semaphore(0)

    def job(self, at: int, call: Callable[[Any], Any], argument: Any) -> Callable[[], None]:
        def do() -> None:
            try:
                if not self._stopped:
                    self._results[at] = call(argument)
            except BaseException as error:
                self._errors[at] = error
                self._stopped = True
            finally:
                self._left.release()

        return do

    def wait(self) -> list[Any]:
        try:
            for _ in self._results:
                self._left.acquire()
        except BaseException:
            self._stopped = True
            raise
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._results


def endpoints_of(module: nn.Module) -> list[Endpoint]:
    """Return the endpoints that a model asks, each once."""
    return [part for part in module.modules() if isinstance(part, Endpoint)]


__all__ = ["Endpoint", "endpoints_of"]
