"""The manifest: what ran, on what, under which versions, and whether its numbers may be reported."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.files import write_atomically
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.plan import Plan

NAME = "manifest.json"
VERSION = 1

STARTED, SUCCESS, FAILED, CANCELLED = "started", "success", "error", "cancelled"

FEWEST = 100
"""Below so many samples an interval is wider than most differences anyone reports."""

_KINDS = {"study": str, "status": str, "cells": dict, "models": dict, "data": dict}

_VERSIONED = ("python", "torch", "torchvision", "assay")


def new_manifest(plan: Plan, command: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a run that starts, or goes on from `before`."""
    here = environment()
    warnings = list(before.get("warnings", []))
    if changed := changed_versions(before):
        warnings.append(f"The finished part ran under other versions ({changed}).")
    return {
        "schema": VERSION,
        "study": plan.study.study,
        "status": STARTED,
        "command": command,
        "cells": {cell.digest: cell.plain() for cell in plan.cells},
        "models": {name: dict(facts) for name, facts in plan.models.items()},
        "methods": plan.methods,
        # what only runs on models have that give scores or labels alone
        **({"query_limits": limits} if (limits := plan.query_limits) else {}),
        "data": {name: dict(facts) for name, facts in plan.data.items()},
        "environment": here,
        "reportable": False,
        "not_reportable_because": ["the run is not finished"],
        "started": before.get("started") or now(),
        "finished": None,
        "warnings": warnings,
    }


def changed_versions(before: Mapping[str, Any]) -> str:
    """Return in words which versions are others here than those of a run's manifest; "" where they are the same."""
    here, then = environment(), before.get("environment", {})
    differing = [name for name in _VERSIONED if then.get(name, here[name]) != here[name]]
    return "; ".join(f"{name} {then[name]}, now {here[name]}" for name in differing)


def finish(manifest: dict[str, Any], plan: Plan, status: str, errors: int) -> None:
    """Note how a run ended, and whether its numbers may be reported."""
    manifest["status"] = status
    manifest["finished"] = now()
    reasons = [] if status == SUCCESS else [f"the run is not finished (status {status})"]
    reasons += not_reportable(plan)
    if errors:
        reasons.append(f"{errors} records are errors: their samples could not be evaluated")
    manifest["not_reportable_because"] = reasons
    manifest["reportable"] = not reasons


def not_reportable(plan: Plan) -> list[str]:
    """Return why numbers of this plan are for looking and not for reporting."""
    reasons = []
    for label, spec in {cell.data.original: cell.data for cell in plan.cells}.items():
        n = plan.data[spec.label]["n"]
        if spec.limit is not None:
            reasons.append(f"only the first {n} samples of {label} (limit)")
        if spec.ids is not None:
            reasons.append(f"only {n} chosen samples of {label} (ids)")
        if n < FEWEST:
            reasons.append(f"{plural(n, 'image')} in {label}: too few to report")
    return reasons


def add_warnings(manifest: dict[str, Any], warnings: Sequence[str]) -> None:
    """Add warnings that are not there yet."""
    manifest["warnings"] = list(dict.fromkeys([*manifest["warnings"], *warnings]))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a run directory's manifest; empty where there is none.

    Raises `BadInput` for a damaged one, or one of a newer version.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "Delete it and run the study again: its shards are kept."
        raise BadInput(f"{path} cannot be read: {error}. {fix}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != VERSION:
        raise BadInput(f"{path} is of another version; this one reads manifests of schema {VERSION}. Update assay.")
    for name, kind in _KINDS.items():
        if not isinstance(manifest.get(name), kind):
            fix = "Delete it and run the study again: its shards are kept."
            raise BadInput(f"{path} is damaged: {name!r} is {manifest.get(name)!r}, expected a {kind.__name__}. {fix}")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a run directory's manifest. Raises `DiskError`."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    # a class may have half of a character in its name: JSON can write that, and UTF-8 cannot
    write_atomically(folder / NAME, text.encode(errors="backslashreplace"))


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Return the versions and the machine that numbers were made with."""
    # who reads a manifest needs none of it
    import torch

    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "torchvision", "assay")},
        "platform": platform.platform(),
        "cpu": _processor(),
        "threads": torch.get_num_threads(),
    }


def version_of(package: str) -> str | None:
    """Return the release of a package that is installed, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
