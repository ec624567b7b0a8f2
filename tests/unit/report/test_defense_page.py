from __future__ import annotations

from pathlib import Path

import pytest

from assay.defenses import DEFENSES
from assay.report.defense_page import defense_page

PAGE = Path(__file__).parents[3] / "docs" / "defenses.md"


def test_the_page_in_the_documentation_is_this_one() -> None:
    assert PAGE.read_text() == defense_page(), "make it anew: assay defenses --markdown > docs/defenses.md"


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defence_says_its_options_and_what_stands_in_for_its_gradient(name: str) -> None:
    section, entry = defense_page().split(f"\n### {name}\n")[1].split("\n### ")[0], DEFENSES[name]
    assert all(f"`{option}=" in section for option in entry.all_options)
    assert entry.detects or "Backwards" in section, "the docstring says what the gradient is"
