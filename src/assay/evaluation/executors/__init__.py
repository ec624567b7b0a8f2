"""Executors, in one visible table: who gets the units of a run done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assay.evaluation.executors.base import Answer, Done, Executor, Failed, Job, Serial
from assay.evaluation.executors.processes import Processes
from assay.evaluation.executors.ray import Ray

EXECUTORS: Mapping[str, Callable[[int | None], Executor]] = {
    "serial": lambda workers: Serial(),
    "processes": lambda workers: Processes(workers),
    "ray": lambda workers: Ray(workers),
}
"""Name -> executor for a number of workers (None: one per processor)."""

__all__ = ["EXECUTORS", "Answer", "Done", "Executor", "Failed", "Job", "Processes", "Ray", "Serial"]
