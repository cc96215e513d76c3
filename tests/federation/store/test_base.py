from federation.policy.audit.chain import parse
from federation.policy.audit.events import AppendAudit
from federation.policy.events import Delete, Put
from federation.store.base import audit_lines, by_kind, last_writes
from federation.store.memory import MemoryStore
from tests.federation.store.audit_log import Writer


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


def test_entries_are_lines_in_their_order_and_no_records() -> None:
    batch = Writer(MemoryStore()).batch(3)
    assert [line.id for line in audit_lines(batch)] == [1, 2, 3]
    assert [parse(line.json)["name"] for line in audit_lines(batch)] == ["m1", "m2", "m3"]
    assert not any(isinstance(command, AppendAudit) for command in last_writes(batch).values())
