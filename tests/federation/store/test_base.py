from federation.policy.events import Delete, Put
from federation.store.base import by_kind, last_writes


def test_records_are_grouped() -> None:
    assert by_kind([("A", "x", 1), ("B", "x", 2), ("A", "y", 3)]) == {
        "A": {"x": 1, "y": 3},
        "B": {"x": 2},
    }


def test_only_the_last_write_of_an_object_is_left() -> None:
    first = Put(kind="A", name="x", record=1)
    last = Delete(kind="A", name="x")
    other = Put(kind="B", name="x", record=2)
    assert list(last_writes([first, other, last]).values()) == [last, other]
