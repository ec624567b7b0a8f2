"""Run rows of the strength board and write `results.json` and `results.md` beside this file.

Usage: python -m benchmarks.strength [ROW ...] [--list] [--images N] [--force] [--peers-only | --no-peers]

References run once and are then read from `cache.json`; ours always runs. The exit code is 1 when ours is weaker in
one of the rows asked for.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from benchmarks.strength import cache
from benchmarks.strength.board import OURS, Contender, Row, Task
from benchmarks.strength.child import run_child
from benchmarks.strength.judge import Figures
from benchmarks.strength.page import page, standing, tried
from benchmarks.strength.rows import rows

HERE = Path(__file__).parent
RAW = ("row", "contender", "sizes", "queries", "wall")


def main() -> int:
    """Run the rows named on the command line."""
    asked = _arguments()
    everything = rows()
    chosen = _chosen(asked.rows, everything)
    if asked.list:
        for row in chosen:
            print(f"{row.name:34} {row.images:3} images; {', '.join(one.name for one in row.contenders)}")
        return 0
    weaker = 0
    for row in chosen:
        print(row.name, file=sys.stderr, flush=True)
        results = _run(row, asked)
        said = standing(row, results)
        weaker += bool(said) and tried(results.get(row.ours.name))
        print(f"  {said or 'holds'}", file=sys.stderr, flush=True)
        # after every row: a run that is stopped keeps what it has
        if asked.images is None:
            _write(asked.folder, row, results, everything)
    where = "" if asked.images else f"; see {asked.folder / 'results.md'}"
    print(f"{len(chosen)} rows, weaker in {weaker}{where}.")
    return 1 if weaker else 0


def _write(folder: Path, row: Row, results: dict[str, Any], everything: dict[str, Row]) -> None:
    before = cache.read(folder / "results.json").get(row.name, {}).get("results", {})
    # a contender that the row no longer has is forgotten
    known = {one.name for one in row.contenders}
    kept = {name: one for name, one in {**before, **results}.items() if name in known}
    cache.keep(folder / "results.json", row.name, {"results": kept})
    (folder / "results.md").write_text(page(everything, cache.read(folder / "results.json")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our attacks and the references at the same number of model passes.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names or patterns (apgd*, *@cnn); default: all")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--images", type=int, help="at most so many images per row: a try, kept off the board")
    parser.add_argument("--force", action="store_true", help="run the references again though they are cached")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one contender may take")
    parser.add_argument("--folder", type=Path, default=HERE, help="where cache.json, results.json and results.md lie")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--peers-only", action="store_true", help="fill the cache; ours does not run")
    which.add_argument("--no-peers", action="store_true", help="references that are not cached do not run")
    return parser.parse_args()


def _chosen(patterns: list[str], everything: dict[str, Row]) -> list[Row]:
    chosen: dict[str, Row] = {}
    for pattern in patterns or ["*"]:
        found = fnmatch.filter(everything, pattern)
        if not found:
            raise SystemExit(f"No row is called {pattern!r}; --list names them.")
        chosen |= {name: everything[name] for name in found}
    return list(chosen.values())


def _run(row: Row, asked: argparse.Namespace) -> dict[str, Any]:
    results = {}
    for contender in row.contenders:
        if contender.library == OURS and asked.peers_only:
            continue
        runs = [_result(row, contender.under(seed), asked) for seed in range(row.seeds)]
        done = [one for one in runs if one is not None]
        if len(done) == row.seeds:
            results[contender.name] = _told(row, done)
    return results


def _told(row: Row, runs: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [one for one in runs if "sizes" not in one]
    if failed:
        return failed[0]
    # what every single image came to stays in the cache
    told = {name: value for name, value in runs[0].items() if name not in RAW}
    agree = {"counts agree": all(one["counts agree"] for one in runs)} if "counts agree" in told else {}
    seconds = {"cpu": statistics.fmean(one["cpu"] for one in runs)}
    return {**told, **agree, **seconds, **Figures.mean_of([Figures.of(row, one) for one in runs]).plain()}


def _result(row: Row, contender: Contender, asked: argparse.Namespace) -> dict[str, Any] | None:
    task = Task.of(row, contender, asked.images)
    try:
        key = None if contender.library == OURS else _key(task)
    except BadInput as error:
        return {"absent": str(error).splitlines()[0]}
    except PackageNotFoundError as error:
        return {"absent": f"{error}: bash scripts/install-beside.sh peers installs it"}
    known = cache.read(asked.folder / "cache.json").get(key) if key and not asked.force else None
    if known is None and key and asked.no_peers:
        return None
    result = known or run_child(task, asked.limit)
    print(f"  {'cached ' if known else ''}{contender.name}: {_said(row, result)}", file=sys.stderr, flush=True)
    if key and not known:
        cache.keep(asked.folder / "cache.json", key, {"row": row.name, "contender": contender.name, **result})
    return result


def _said(row: Row, result: dict[str, Any]) -> str:
    if "sizes" not in result:
        return str(result.get("absent") or f"failed: {result['failed']}")
    passes = f"{result['forwards']:.0f} F {result['backwards']:.0f} B {result['cpu']:.0f} s"
    return f"{Figures.of(row, result).written(row)}; {passes}"


def _key(task: Task) -> str:
    from benchmarks.strength.libraries import version_of
    from benchmarks.strength.subjects import subject

    judge = subject(task.subject, task.images)
    weights = [judge.weights] + ([subject(task.surrogate, task.images).weights] if task.surrogate else [])
    return cache.key(task, version_of(task.contender.library), tuple(weights), judge.pictures)


if __name__ == "__main__":
    sys.exit(main())
