"""Several runs as one result."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.compose.method import Method, for_norm, run, stages
from assay.core.draws import Draws
from assay.core.problem import Problem
from assay.core.result import Keeps, SearchResult, put
from assay.core.tensors import take

Run = tuple[Method, Problem, Draws]


def merged(runs: list[Run], found: SearchResult, keeps: Keeps, *, counted: bool = False) -> SearchResult:
    """Make the runs one after the other and merge what they find into `found`, which the caller gives away.

    Where the first success is kept, later runs meet only the samples still standing. `counted`: each run is a stage of
    its own.
    """
    if keeps is Keeps.LAST and not counted and runs[0][0].keeps is Keeps.SMALLEST:
        keeps = Keeps.SMALLEST
    # of several runs that each keep their last point the most damaging one counts, or else the smallest success
    merge = Keeps.WORST if keeps is Keeps.LAST else keeps
    before = 0
    for method, problem, draws in runs:
        left = _standing(found, keeps)
        if not len(left):
            break
        # the last point of an attack that looks for the smallest change is its smallest success
        own = Keeps.SMALLEST if keeps is Keeps.LAST and method.keeps is Keeps.SMALLEST else keeps
        new = run(method, take(problem, left), draws.take(left), keeps=own)
        found = put(found, left, new._replace(part=new.part + before), merge)
        before += len(stages(for_norm(method, problem.threat.norm.name))) if counted else 0
    return found


def _standing(found: SearchResult, keeps: Keeps) -> Tensor:
    everyone = torch.arange(len(found.success), device=found.success.device)
    return everyone[~found.success] if keeps is Keeps.FIRST else everyone
