"""The diagrams of ARCHITECTURE.md are those of the tables; the tables are whole."""

import pytest

from tests.diagrams import PAGE, TABLES, mermaid, page_with_diagrams


def test_the_page_shows_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_diagrams(page), "run `make diagrams`"


@pytest.mark.parametrize("title", TABLES)
def test_every_state_is_entered_and_left(title: str) -> None:
    table = TABLES[title]
    states = {s for s, _ in table} | set(table.values())
    assert {s for s, _ in table} == states
    first = next(iter(table))[0]
    assert set(table.values()) | {first} == states


def test_arrows_between_the_same_states_are_one() -> None:
    text = mermaid(next(iter(TABLES.values())))
    arrows = [line.split(":")[0] for line in text.splitlines() if "-->" in line]
    assert len(arrows) == len(set(arrows))
