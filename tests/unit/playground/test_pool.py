"""The queue alone, before workers that are played."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assay.playground import pool
from assay.playground.pool import Pool, Setting, Ticket, Worker


class Played(Worker):
    """A worker without a process: what it is sent is kept, and a test says what it answers."""

    def __init__(self) -> None:
        self.ticket, self.ready, self.timers, self.reading = None, True, [], None
        self.sent: list[dict[str, Any]] = []
        self.killed = False

    def send(self, request: dict[str, Any]) -> None:
        self.sent.append(request)

    def kill(self) -> None:
        self.killed = True


def before(count: int = 1) -> tuple[Pool, list[Played]]:
    made = Pool(count, Setting(()), lambda _: None)
    workers = [Played() for _ in range(count)]
    made.workers = list(workers)
    return made, workers


def finish(made: Pool, worker: Played) -> str:
    ticket = worker.ticket
    assert ticket is not None
    made._of_job(worker, ticket, {"event": "end"})
    return ticket.visitor


def submitted(made: Pool, visitor: str) -> Ticket:
    ticket = made.submit(visitor, {"do": "run"})
    assert ticket is not None
    return ticket


def test_visitors_take_turns() -> None:
    async def live() -> list[str]:
        made, (worker,) = before()
        for visitor in ("a", "a", "a", "b", "c", "b"):
            submitted(made, visitor)
        return [finish(made, worker) for _ in range(6)]

    assert asyncio.run(live()) == ["a", "a", "b", "c", "a", "b"]


def test_too_many_jobs_are_not_taken() -> None:
    async def live() -> None:
        made, _ = before()
        taken = [made.submit("a", {"do": "run"}) for _ in range(pool.MOST_WAITING + 2)]
        assert [one is None for one in taken] == [False] * (pool.MOST_WAITING + 1) + [True]
        assert made.submit("b", {"do": "run"}) is not None

    asyncio.run(live())


def test_a_job_that_waits_is_stopped_at_once_and_never_given() -> None:
    async def live() -> None:
        made, (worker,) = before()
        first, second = submitted(made, "a"), submitted(made, "a")
        made.stop(second)
        assert second.events.get_nowait() == {"event": "stopped"}
        assert second.events.get_nowait() is None
        finish(made, worker)
        assert worker.ticket is None
        assert first.over

    asyncio.run(live())


@pytest.mark.parametrize("stops_itself", [True, False])
def test_a_job_that_takes_too_long_is_asked_to_stop_and_then_its_process_is_ended(
    monkeypatch: pytest.MonkeyPatch, stops_itself: bool
) -> None:
    monkeypatch.setattr(pool, "GRACE", 0.1)

    async def live() -> None:
        made, (worker,) = before()
        ticket = made.submit("a", {"do": "run"}, 0.1)
        assert ticket is not None
        await asyncio.sleep(0.15)
        assert worker.sent[-1] == {"do": "stop", "job": ticket.number}
        if stops_itself:
            made._of_job(worker, ticket, {"event": "stopped"})
            made._of_job(worker, ticket, {"event": "end"})
        await asyncio.sleep(0.3)
        assert worker.killed is not stops_itself
        if stops_itself:
            # why it was stopped, and not that it was
            assert "seconds that it may" in ticket.events.get_nowait()["error"]

    asyncio.run(live())


def test_the_process_of_a_job_that_is_over_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE", 0.05)

    async def live() -> None:
        made, (worker,) = before()
        ticket = submitted(made, "a")
        made.stop(ticket)
        made._of_job(worker, ticket, {"event": "end"})
        other = submitted(made, "b")
        await asyncio.sleep(0.15)
        assert worker.ticket is other
        assert not worker.killed

    asyncio.run(live())


def test_workers_that_never_come_up_are_given_up_and_said() -> None:
    async def live() -> None:
        told: list[dict[str, Any]] = []
        made = Pool(1, Setting(()), told.append)
        made._add = lambda: asyncio.sleep(0)  # type: ignore[method-assign]  # no process is started
        waiting = submitted(made, "a")
        for _ in range(3):
            worker = Played()
            worker.ready = False
            made.workers = [worker]
            made._lost(worker)
        assert waiting.events.get_nowait()["event"] == "failed"
        assert submitted(made, "b").events.get_nowait()["event"] == "failed"
        assert "can be started" in told[-1]["text"]

    asyncio.run(live())


def test_a_job_given_to_a_process_that_was_gone_is_done_by_another() -> None:
    async def live() -> None:
        made, (gone, other) = before(2)
        other.ready = False
        made._add = lambda: asyncio.sleep(0)  # type: ignore[method-assign]  # no process is started
        ticket = submitted(made, "a")
        other.ready = True
        made._lost(gone)
        assert other.ticket is ticket
        made._lost(other)
        # it is what ends them
        assert ticket.events.get_nowait()["event"] == "failed"

    asyncio.run(live())
