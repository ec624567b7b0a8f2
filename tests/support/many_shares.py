"""Shares of one study that start at one moment, some of which are killed: a program, for it forks."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from assay.evaluation.run import Run
from assay.evaluation.study.spec import Study
from tests.support.tiny import rows, run_here, study, write_model, write_pictures


def forked(out: Path, given: Study, share: str, at: float = 0.0) -> int:
    """Run a share in another process from the moment `at` on, and return that process."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        time.sleep(max(0.0, at - time.time()))
        run_here(out, given, share=share)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def one_round(out: Path, given: Study, shares: int, draws: random.Random, *, kills: int) -> list[int]:
    """Run all shares at once, kill some, and run those again; return those that were killed."""
    at = time.time() + 0.5
    started = {number: forked(out, given, f"{number}/{shares}", at) for number in range(1, shares + 1)}
    time.sleep(0.5 + draws.random())
    for number in draws.sample(list(started), kills):
        os.kill(started[number], signal.SIGKILL)
    ends = {number: os.waitpid(process, 0)[1] for number, process in started.items()}
    assert set(ends.values()) <= {0, signal.SIGKILL}, ends
    killed = [number for number, end in ends.items() if end]
    assert Run.open(out).status == ("started" if killed else "success"), (ends, Run.open(out).status)
    again = [forked(out, given, f"{number}/{shares}") for number in killed]
    assert all(os.waitpid(process, 0)[1] == 0 for process in again)
    return killed


def main(folder: Path, rounds: int, shares: int) -> None:
    """Compare the records of so many rounds with those of one process; every other one has kills."""
    source = write_pictures(folder / "pictures", 48)
    given = study(write_model(folder / "model"), source, chunk=4)
    expected = rows(run_here(folder / "serial", given))
    for at in range(rounds):
        out = folder / f"run-{at}"
        killed = one_round(out, given, shares, random.Random(at), kills=3 * (at % 2))
        assert Run.open(out).status == "success" and rows(Run.open(out)) == expected, killed
        print(f"round {at}: killed {killed}, equal", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
