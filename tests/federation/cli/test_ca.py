import json

from tests.federation.cli.conftest import Fed


def test_the_roots_are_listed_with_their_pins(fed: Fed) -> None:
    titles, row = fed("ca", "get").out.splitlines()
    assert titles.split() == ["NAME", "PHASE", "SINCE", "UNTIL", "PIN"]
    assert row.split() == ["root-0001", "active", "S", "-", "P"]


def test_rotating_shows_the_new_root_and_what_to_know(fed: Fed) -> None:
    result = fed("ca", "rotate")
    assert result.out.splitlines()[2].split() == ["root-0002", "prepared", "S", "U", "P"]
    assert "join anew" in result.err
    document = json.loads(fed("ca", "rotate", "-o", "json").out)
    assert len(document["roots"]) == 2


def test_the_pin_is_printed_alone(fed: Fed) -> None:
    assert fed("ca", "pin").out == "P\n"
