"""Run the benchmarks and write `benchmarks/results.json` and `benchmarks/results.md`.

Usage: python -m benchmarks.bench [NAME ...] [--repeats N]

Without names all of them run, in about an hour on 2 cores. Results of benchmarks that were not run this time are
kept from before.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES

HERE = Path(__file__).parent
PACKAGES = ("assay", "torch", "torchvision", "foolbox", "torchattacks", "adversarial-robustness-toolbox")
PACKAGES += ("pyautoattack", "adv-lib")


def main() -> int:
    """Run the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(description="Time and memory against the peers and against the bare limit.")
    parser.add_argument("names", nargs="*", choices=[*CASES, []], metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the table shows medians (default: 3)")
    asked = parser.parse_args()
    file = HERE / "results.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in asked.names or CASES:
        print(f"\n{name}", file=sys.stderr)
        outcome = CASES[name](asked.repeats)
        kept[name] = {**dataclasses.asdict(outcome), "repeats": asked.repeats, "machine": machine()}
        print(table(kept[name]))
        # after every benchmark: a run that is stopped keeps what it has
        file.write_text(json.dumps(kept, indent=1) + "\n")
        (HERE / "results.md").write_text(page(kept))
    missed = [ratio["what"] for name in asked.names or CASES for ratio in kept[name]["ratios"] if not ratio["holds"]]
    print(f"\n{file.relative_to(HERE.parent)} and results.md are written; {len(missed)} targets missed.")
    return 0


def machine() -> dict[str, Any]:
    """Return what the numbers depend on besides the code."""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def table(outcome: Mapping[str, Any]) -> str:
    """Return one benchmark as Markdown."""
    lines = [f"### {outcome['name']}", "", f"{outcome['what']}; median of {outcome['repeats']}.", ""]
    lines += [f"| | {outcome['unit']} | spread | result |", "|---|---:|---|---|"]
    for row in outcome["rows"]:
        spread = f"{row['low']:.3g} to {row['high']:.3g}"
        lines.append(f"| {row['name']} | {row['median']:.3g} | {spread} | {row['found']} |")
    lines += ["", "| ratio | value | target | |", "|---|---:|---|---|"]
    for ratio in outcome["ratios"]:
        met = "" if not ratio["target"] else "met" if ratio["holds"] else "**missed**"
        lines.append(f"| {ratio['what']} | {ratio['value']:.3g} | {ratio['target']} | {met} |")
    return "\n".join(lines) + "\n"


def page(kept: Mapping[str, Any]) -> str:
    """Return all benchmarks as one Markdown page."""
    parts = ["# Benchmark results\n\nWritten by `make bench`.\n"]
    for name in [name for name in CASES if name in kept]:
        host = kept[name]["machine"]
        packages = ", ".join(f"{package} {number}" for package, number in host["packages"].items())
        parts.append(f"{table(kept[name])}\n{host['date']}, {host['cpu']}, {host['threads']} threads; {packages}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
