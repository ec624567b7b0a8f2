from __future__ import annotations

import dataclasses

from assay.report.groups import Group, Line
from assay.report.headline import headline, spotlight


def only(group: Group, line: Line, eps: set[str] | None = None) -> Group:
    kept = tuple(result for result in line.results if eps is None or result.eps_written in eps)
    return dataclasses.replace(group, lines=(dataclasses.replace(line, results=kept),), worst=None)


def test_the_sentence_speaks_of_the_largest_imperceptible_budget(digits: Group) -> None:
    assert spotlight(digits).eps_written == "0.01"  # 2.6 grey levels; 0.02 is 5.1
    assert str(headline(digits)).startswith("Under imperceptible changes (at most 2.6 of 255 grey levels), accuracy")


def test_the_sentence_gives_the_worst_number_and_says_of_how_many_attacks(digits: Group) -> None:
    said = headline(digits)
    left = min(line.at(0.01).robust_accuracy for line in digits.shown)  # type: ignore[union-attr]
    assert said.left == f"{100 * left:.0f}\u00a0%"
    assert said.caveat.startswith("Worst case over 2 attacks")


def test_one_attack_is_called_one_attack(digits: Group) -> None:
    assert headline(only(digits, digits.lines[0])).caveat == "Measured with fgsm: one attack, not robustness."
    assert "stronger attack may leave less" in headline(only(digits, digits.lines[2])).caveat


def test_without_an_imperceptible_budget_it_says_what_the_smallest_one_is(digits: Group) -> None:
    said = str(headline(only(digits, digits.lines[2], {"0.2", "0.3"})))
    assert said.startswith("Under visible changes (at most 51 of 255 grey levels)")
    assert "At the largest budget tried (76.5 grey levels)" in said


def test_nothing_lost_is_not_called_a_fall(digits: Group) -> None:
    line = digits.lines[0]
    whole = tuple(
        dataclasses.replace(result, survived=result.clean_correct, robust_accuracy=result.clean_accuracy)
        for result in line.results
    )
    assert "accuracy stays at" in headline(only(digits, dataclasses.replace(line, results=whole))).before


def test_eps_zero_alone_is_the_clean_accuracy(digits: Group) -> None:
    said = headline(only(digits, digits.lines[0], {"0"}))
    assert str(said) == f"Without any change, accuracy is {digits.clean}."


def test_other_norms_are_not_spoken_of_in_grey_levels(digits: Group) -> None:
    said = str(headline(dataclasses.replace(digits, threat="l2")))
    assert "grey" not in said and "L₂ size" in said


def test_numbers_of_one_attack_do_not_hide_what_the_worst_case_says(digits: Group) -> None:
    worst = digits.worst
    assert worst is not None
    late = dataclasses.replace(worst, results=worst.results[-2:])
    said = str(headline(dataclasses.replace(digits, worst=late)))
    assert said.startswith("Under visible changes (at most 51 of 255 grey levels)")  # not fgsm's small budgets
    assert "Worst case over 2 attacks" in said


def test_a_targeted_attack_is_not_spoken_of_as_accuracy(digits: Group) -> None:
    said = str(headline(dataclasses.replace(digits, goal="targeted next")))
    assert "the share of images that withstand (targeted next) falls" in said
