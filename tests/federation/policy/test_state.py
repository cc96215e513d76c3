from datetime import timedelta

import pytest

from federation.policy import state as state_module
from federation.policy.events import Applied, Delete, Put
from federation.policy.records import PERSISTENT
from federation.policy.state import State, Step, restore
from tests.federation.policy.world import START, World


def test_every_stored_kind_has_its_table() -> None:
    state = State()
    tables = [state.table(kind) for kind in PERSISTENT]
    assert len({id(table) for table in tables}) == len(PERSISTENT)


def test_a_copy_changes_alone() -> None:
    world = World()
    world.cluster("c")
    copy = world.state.copy()
    assert copy == world.state
    world.push("m")
    assert copy.models == {}
    assert copy.revision < world.state.revision


def test_restore_puts_the_audit_in_order() -> None:
    world = World()
    for number in range(12):
        world.region(f"r{number}")
    backwards = dict(reversed(world.state.audit.items()))
    state = restore({"Event": backwards}, revision=50, blank=State(lease=timedelta(seconds=7)))
    assert list(state.audit) == list(world.state.audit)
    assert (state.revision, state.lease) == (50, timedelta(seconds=7))
    step = Step(state, START, "test")
    step.audit("Region", "x", "Tested", "a test.")
    assert list(state.audit)[-1] == "13"


def test_the_oldest_events_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "AUDIT_LIMIT", 3)
    step = Step(State(), START, "test")
    for number in range(5):
        step.audit("Region", "x", "Tested", f"test {number}.")
    assert [r.id for r in step.state.audit.values()] == [3, 4, 5]
    deleted = [c for c in step.commands if isinstance(c, Delete)]
    assert [(c.name, c.revision) for c in deleted] == [("1", 0), ("2", 0)]


def test_receipts_that_are_old_or_too_many_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "RECEIPT_LIMIT", 2)
    state, applied = State(), Applied(kind="Region", name="x")
    for key in ("a", "b", "c"):
        Step(state, START, "test").remember(key, "f", applied)
    assert list(state.receipts) == ["b", "c"]
    late = Step(state, START + state_module.RECEIPT_AGE + timedelta(seconds=1), "test")
    late.remember("d", "f", applied)
    assert list(state.receipts) == ["d"]


def test_metas_count_changes_of_the_spec_only() -> None:
    step = Step(State(), START, "test")
    meta = step.new_meta("x")
    status = step.next_meta(meta)
    spec = step.next_meta(status, spec_changed=True)
    assert [m.generation for m in (meta, status, spec)] == [1, 1, 2]
    assert [m.resource_version for m in (meta, status, spec)] == [1, 2, 3]


def test_what_is_forgotten_is_deleted_from_the_store() -> None:
    world = World()
    world.region("eu")
    world.commands.clear()
    world.remove("Region", "eu")
    first, second = world.commands[:2]
    assert isinstance(first, Delete)
    assert isinstance(second, Put)
    assert first.revision == second.revision - 1


def test_a_state_shows_its_size() -> None:
    world = World()
    world.cluster("c")
    assert "clusters=1 (1 present)" in repr(world.state)
