"""The conformance checks catch attacks with a mistake, and let the one without pass."""

from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from tests.support import checks
from tests.support.bench import case
from tests.support.broken import BROKEN, DoesNothing, ForgetsTheBox, ForgetsToProject, Plain, WrongSign


def first_failure(attack, norm: str) -> str | None:
    """Return the first complaint of a check about an attack, or None."""
    try:
        checks.check_strength(attack, norm)
        for check in checks.CHECKS:
            check(attack, case(norm))
    except (AssertionError, BadInput) as complaint:
        return str(complaint)
    return None


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_attack_without_a_mistake_passes(norm: str) -> None:
    assert first_failure(Plain(), norm) is None


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_every_broken_attack_is_caught(broken, norm: str) -> None:
    assert first_failure(broken(), norm) is not None


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("broken", [DoesNothing, WrongSign])
def test_the_strength_check_catches_a_weak_attack(broken, norm: str) -> None:
    with pytest.raises(AssertionError, match="easy samples stand"):
        checks.check_strength(broken(), norm)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_budget_check_catches_a_missing_projection(norm: str) -> None:
    with pytest.raises(AssertionError, match="outside the budget"):
        checks.check_budget(ForgetsToProject(), case(norm))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("cheat", [ForgetsToProject, ForgetsTheBox])
def test_a_point_outside_the_budget_or_the_box_is_no_success(cheat, norm: str) -> None:
    """Even an attack that cheats does not get the success counted."""
    here = case(norm)
    found = here.run(cheat())
    inside = here.threat.allows(here.threat.size(found.x, here.x)) & here.threat.in_box(found.x)
    assert not bool((found.success & ~inside).any())
    assert not bool(inside.all()) or (norm == "l1" and cheat is ForgetsTheBox)  # a step in L1 heeds the box itself
