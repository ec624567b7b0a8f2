from __future__ import annotations

import pytest

from assay.core.errors import BadInput
from assay.paper.tables import errata, in_order, printed_table, printed_tables, table_number


def test_every_table_is_whole() -> None:
    numbers = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV"]
    assert list(printed_tables()) == numbers
    for number, table in printed_tables().items():
        assert table.number == number
        assert table.title and table.axis and table.errata
        assert table.unit in ("percent", "fraction")
        for row in table.rows:
            assert len(row.values) == len(table.columns)
            assert len(row.labels) in (0, len(table.columns))
            assert all(0 <= value <= (100 if table.unit == "percent" else 1) for value in row.values)


def test_errata_are_told_by_table() -> None:
    assert list(errata()) == list(printed_tables())
    assert "2,727 of 10,000 is .2727" in errata()["XIII"][0]


def test_what_is_printed() -> None:
    top1, top5 = printed_table("IV").rows
    assert top1.values == (77.18, 87.1, 90.5, 91.58, 92.02, 92.2, 92.02, 91.88, 91.66, 91.06)
    assert top5.values[0] == 33.34
    assert [row.values[2] for row in printed_table("VII").rows] == [99.34, 92.65, 99.37, 99.17, 98.58]
    assert printed_table("XIII").rows[0].values[-1] == 0.2767
    shark = printed_table("III").rows[1]
    assert (shark.name, shark.labels[0], shark.values[0]) == ("tiger shark", "electric ray", 0.8774)


@pytest.mark.parametrize("number", ["I", "IV", "V", "VI"])
def test_errors_are_counts_of_5000_images(number: str) -> None:
    for row in printed_table(number).rows:
        counts = [value * 50 for value in row.values]
        assert counts == pytest.approx([round(count) for count in counts], abs=1e-6)


@pytest.mark.parametrize("words", ["IV", "iv", "4", "Table IV", "table-iv", " table 4 "])
def test_a_table_by_any_of_its_names(words: str) -> None:
    assert table_number(words) == "IV"


@pytest.mark.parametrize("words", ["XV", "0", "15", "", "goldfish"])
def test_an_unknown_table_is_refused(words: str) -> None:
    with pytest.raises(BadInput, match=r"There is no table .* The paper has Tables I to XIV\."):
        table_number(words)


def test_a_slip_gets_a_suggestion() -> None:
    with pytest.raises(BadInput, match="Did you mean 'XIV'"):
        table_number("XIVI")


def test_tables_come_in_the_papers_order_and_once() -> None:
    assert in_order(["XIV", "4", "IV", "i"]) == ["I", "IV", "XIV"]
