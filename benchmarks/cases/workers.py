"""Two processes of one thread each, against one process with one thread and with two."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.children import run_python
from benchmarks.measure import Outcome, Timed, at_least, interleaved

DIGITS, STEPS = 2_000, 40
CODE = """
import tempfile, time
import assay
if __name__ == "__main__":
    attack = {{"attack": "pgd", "steps": {steps}}}
    settings = dict(question="as_attacked", executor="{executor}", workers={workers}, doctor=False, audit="off")
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        assay.evaluate("zoo:mnist-cnn", {data}, attacks=[attack], threat=assay.Linf(0.1), out=out, **settings)
        print(time.perf_counter() - began)
"""


def measure(repeats: int) -> Outcome:
    """Time PGD-40 on 2,000 digits; starting the workers is included."""
    contenders = {
        "two processes, one thread each": _contender("processes", workers=2, threads=1),
        "one process, one thread": _contender("serial", workers=1, threads=1),
        "one process, two threads": _contender("serial", workers=1, threads=2),
    }
    # the child's own clock: importing torch in it is no part of the run
    inside: dict[str, list[float]] = {name: [] for name in contenders}

    def noted(name: str) -> Callable[[], None]:
        return lambda: inside[name].append(contenders[name]())

    interleaved({name: noted(name) for name in contenders}, repeats)
    # the first round warms up
    timed = {name: Timed(tuple(seconds[1:])) for name, seconds in inside.items()}
    two, one, threads = (timed[name].median for name in contenders)
    ratios = [
        at_least("one process with one thread takes … times as long as two processes", one / two, 1.7),
        at_least("one process with two threads takes … times as long as two processes", threads / two, 1.0),
    ]
    what = f"PGD-{STEPS} as attacked, MNIST network, {DIGITS:,} test digits"
    return Outcome("workers", what, "s", [one.row(name) for name, one in timed.items()], ratios)


def _contender(executor: str, workers: int, threads: int) -> Callable[[], float]:
    # workers rebuild data from its name, so the selection is given as a study writes it
    data = f'{{"source": "mnist/test", "limit": {DIGITS}}}'
    code = CODE.format(steps=STEPS, executor=executor, workers=workers, data=data)
    return lambda: float(run_python(code, threads=threads))
