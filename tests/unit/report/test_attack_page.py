from __future__ import annotations

from pathlib import Path

import pytest

from assay.attacks import ATTACKS
from assay.report.attack_page import attack_page

PAGE = Path(__file__).parents[3] / "docs" / "attacks.md"


def test_the_page_in_the_documentation_is_this_one() -> None:
    assert PAGE.read_text() == attack_page(), "make it anew: assay attacks --markdown > docs/attacks.md"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_says_its_paper_its_options_and_its_cost(name: str) -> None:
    section = attack_page().split(f"\n### {name}\n")[1].split("\n### ")[0]
    assert "Cost" in section, "the docstring says what the attack costs"
    entry = ATTACKS[name]
    for option in entry.options:
        assert option == "keeps" or f"`{option}=" in section
    assert entry.summary in attack_page()
