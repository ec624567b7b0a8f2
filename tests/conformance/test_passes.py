"""What a run costs is bounded beforehand: every attack of the table, in each of its norms, alone and composed."""

from __future__ import annotations

import dataclasses

import pytest

from assay.attacks import ATTACKS
from assay.audit.subject import leaves
from assay.core.compose import Method, Passes, Restarts, Through, Transferred, for_norm, most_passes, run
from assay.core.lenses import Averaged, Expectation
from assay.core.oracle import Access, TorchOracle
from assay.core.search import Keeps
from assay.core.sweep import first_look
from tests.support.bench import FIRST_NORM, PAIRS, case, make

WRAPPED = ("alone", "restarts", "smallest", "eot", "averaged", "surrogate", "restarts of eot on a surrogate")
TINY = 1e-3
"""A budget that nothing fits into: attacks that look for the smallest change end at the image itself."""


def wrapped(kind: str, name: str, surrogate: TorchOracle) -> Method | None:
    """Return a short attack of the table in a composition; None where it does not take it."""
    entry, method = ATTACKS[name], make(name)
    if "eot" in kind or kind == "averaged":
        if entry.access is not Access.GRADIENT:
            return None
        method = Through(Averaged(2) if kind == "averaged" else Expectation(2), method)
    if kind == "smallest":
        return make(name, smallest=2) if "smallest" in entry.general else None
    if "restarts" in kind:
        method = Restarts(method, 2)
    return Transferred(method, surrogate) if "surrogate" in kind else method


# what differs between the norms is the attack, not how compositions multiply it: composed, each runs in one norm
RUNS = [(name, norm, "alone") for name, norm in PAIRS] + [(*one, kind) for one in FIRST_NORM for kind in WRAPPED[1:]]


@pytest.mark.parametrize(("name", "norm", "kind"), RUNS)
def test_no_run_costs_more_than_its_bound(name: str, norm: str, kind: str) -> None:
    here = case(norm, n=4)
    method = wrapped(kind, name, TorchOracle(here.model))
    if method is None:
        pytest.skip(f"{name} does not take it")
    bound = most_passes(method, norm, classes=5)
    assert most_passes(method, norm).backwards <= bound.backwards
    nothing_fits = here.but(threat=here.threat.at(1 if norm == "l0" else TINY))
    for one in (here, nothing_fits) if make(name).keeps is Keeps.SMALLEST else (here,):
        problem = dataclasses.replace(one.problem(), known=first_look(method, one.problem(), one.draws))
        found = run(method, problem, one.draws, keeps=Keeps.LAST)
        assert int(found.forwards.max()) <= bound.forwards
        assert int(found.backwards.max()) <= bound.backwards


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_every_composition_of_every_attack_in_every_norm_has_a_bound(name: str, norm: str) -> None:
    surrogate = TorchOracle(case(norm).model)
    for kind in WRAPPED:
        method = wrapped(kind, name, surrogate)
        if method is not None:
            known, unknown = most_passes(method, norm, 5), most_passes(method, norm)
            assert unknown.forwards >= 1 and 0 <= unknown.backwards <= known.backwards
            assert (known.backwards > 0) == any(
                leaf.access is Access.GRADIENT for leaf in leaves(for_norm(method, norm))
            )


@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_compositions_multiply_what_an_attack_costs(name: str, norm: str) -> None:
    once = most_passes(make(name), norm, 5)
    assert most_passes(Restarts(make(name), 3), norm, 5) == once.times(3)
    elsewhere = Transferred(make(name), TorchOracle(case(norm).model))
    assert most_passes(elsewhere, norm, 5) == once + Passes(1, 0)
    if once.backwards:
        # every look with a gradient is asked twice, those that judge once
        twice = most_passes(Through(Expectation(2), make(name)), norm, 5)
        assert twice.backwards == 2 * once.backwards
        assert once.forwards < twice.forwards <= 2 * once.forwards
