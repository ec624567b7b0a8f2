"""One contender of one row in a process of its own, which may be stopped, starve or crash.

Usage: python -m benchmarks.strength.child < task.json; the last line printed is the result.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.strength.board import DISTANCE, OURS, QUERIES, TRANSFER, Task

ROOT = Path(__file__).parents[2]
SIZE_OF_A_BATCH = 100


def run_child(task: Task, seconds: float) -> dict[str, Any]:
    """Run a task in a fresh process on one thread; a failure is a result: `{"failed": why}`."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    command = [sys.executable, "-m", "benchmarks.strength.child"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(task.plain()),
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {seconds:.0f} s"}
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [""]
        return {"failed": f"exit status {error.returncode}: {last[0]}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> int:
    """Read a task, do it, print the result."""
    task = Task.read(json.loads(sys.stdin.read()))
    try:
        result = measure(task)
    except Exception as error:  # whatever old code raises is this contender's result
        kind = "absent" if type(error).__name__ == "NotYet" else "failed"
        said = str(error).strip().splitlines()[:1] or [""]
        result = {kind: said[0] if kind == "absent" else f"{type(error).__name__}: {said[0]}"}
    print(json.dumps(result))
    return 0


def measure(task: Task) -> dict[str, Any]:
    """Return per image (mistakes of the model first) what the contender reached, and what it cost."""
    import numpy
    import torch

    from benchmarks.strength.subjects import subject

    torch.set_num_threads(1)
    torch.manual_seed(task.contender.seed)
    numpy.random.seed(task.contender.seed)
    random.seed(task.contender.seed)
    judge = subject(task.subject, task.images)
    model = judge.model if task.surrogate is None else subject(task.surrogate, task.images).model
    if task.contender.library != OURS:
        from benchmarks.strength.libraries import warm

        warm(task.contender.library)
    model.forwards = model.backwards = 0
    began, wall = time.process_time(), time.perf_counter()
    one_by_one = task.kind in (QUERIES, DISTANCE)
    reached = (_image_by_image if one_by_one else _in_batches)(task, model, judge)
    attacked = max(1, len(judge.x))
    return {
        **reached,
        "mistakes": judge.mistakes,
        "images": judge.images,
        "forwards": model.forwards / attacked,
        "backwards": model.backwards / attacked,
        "cpu": time.process_time() - began,
        "wall": time.perf_counter() - wall,
    }


def _in_batches(task: Task, model: Any, judge: Any) -> dict[str, Any]:
    import torch

    from benchmarks.strength.counted import answers, sizes, wrong

    found, counted = [], []
    at = 0
    for x, y in zip(judge.x.split(SIZE_OF_A_BATCH), judge.y.split(SIZE_OF_A_BATCH), strict=True):
        found.append(_attack(task, model, x, y, at, counted))
        at += len(x)
    z = torch.cat(found).clamp(0.0, 1.0)
    broken = wrong(answers(judge.model.module, z), judge.y)
    size = sizes(z, judge.x, task.norm)
    if task.eps is not None:
        broken &= size <= task.eps * (1 + 1e-4)
    reached = [round(float(s), 6) if b else None for s, b in zip(size, broken, strict=True)]
    agree = None if None in counted else [sum(column) for column in zip(*counted, strict=True)]
    here = [model.forwards, model.backwards]
    told = {} if agree is None else {"counts agree": agree == here}
    return {"sizes": reached, **told, **({"transfer": True} if task.kind == TRANSFER else {})}


def _image_by_image(task: Task, model: Any, judge: Any) -> dict[str, Any]:
    from benchmarks.strength.counted import Spent, Watch

    first, smallest, errors = [], [], []
    for i in range(len(judge.x)):
        x, y = judge.x[i : i + 1], judge.y[i : i + 1]
        model.watch = Watch(x, y, task.norm, task.eps, task.limit or sys.maxsize)
        try:
            _attack(task, model, x, y, i, [])
        except Spent:
            pass
        except Exception as error:
            # an image that a library trips over counts as unbroken; only all of them are the library's failure
            errors.append(error)
            if len(errors) == len(judge.x) or type(error).__name__ == "NotYet":
                raise
        first.append(model.watch.first)
        smallest.append(round(model.watch.smallest, 6) if model.watch.smallest < float("inf") else None)
        model.watch = None
    told = {"errors": f"{len(errors)} images: {errors[0]}"} if errors else {}
    return {"queries": first, "sizes": smallest, **told}


def _attack(task: Task, model: Any, x: Any, y: Any, at: int, counted: list[Any]) -> Any:
    contender = task.contender
    if contender.library == OURS:
        from benchmarks.strength import ours

        own = ours.attacked(model, x, y, task, at)
        counted.append((own.forwards, own.backwards))
        return own.x
    from benchmarks.strength import libraries

    counted.append(None)
    return libraries.attacked(model, x, y, contender)


if __name__ == "__main__":
    sys.exit(main())
