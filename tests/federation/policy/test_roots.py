from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.errors import Conflict
from federation.policy.roots import (
    TRANSITIONS,
    RootPatience,
    RootPhase,
    RootStep,
    advanced,
    due_of,
    in_bundle,
    next_change,
    prepared,
)
from tests.depth import examples
from tests.federation.policy.world import START

LIFE, GRACE = timedelta(hours=24), timedelta(days=30)
PATIENCE = RootPatience(leaf_life=LIFE, renew_grace=GRACE)


def test_a_rotation_takes_one_leafs_life_each_to_begin_and_to_end() -> None:
    roots = prepared((), "one", START)
    assert [r.phase for r in roots] == [RootPhase.ACTIVE]
    assert next_change(roots, PATIENCE) is None
    roots = prepared(roots, "two", START)
    with pytest.raises(Conflict, match="two is being prepared"):
        prepared(roots, "three", START)
    assert next_change(roots, PATIENCE) == START + LIFE
    assert advanced(roots, START + LIFE - timedelta(seconds=1), PATIENCE) == roots
    roots = advanced(roots, START + LIFE, PATIENCE)
    assert [r.phase for r in roots] == [RootPhase.RETIRING, RootPhase.ACTIVE]
    assert all(in_bundle(r) for r in roots)
    roots = advanced(roots, START + 2 * LIFE, PATIENCE)
    assert [r.phase for r in roots] == [RootPhase.RETIRED, RootPhase.ACTIVE]
    assert [in_bundle(r) for r in roots] == [False, True]
    assert [due_of(r, PATIENCE) for r in roots] == [START + 2 * LIFE + GRACE, None]
    roots = advanced(roots, START + 2 * LIFE + GRACE, PATIENCE)
    assert [r.name for r in roots] == ["two"]


def test_the_table_has_every_phase_and_an_end() -> None:
    assert {phase for phase, _ in TRANSITIONS} == {*RootPhase, None}
    assert {step for _, step in TRANSITIONS} == set(RootStep)
    assert [target for target in TRANSITIONS.values() if target is None] == [None]


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.integers(0, 40 * 24), st.booleans()), max_size=40))
def test_whatever_the_operator_does_nobody_is_refused(steps: list[tuple[int, bool]]) -> None:
    """Leaves live LIFE. A root signs only after all could learn of it, and is trusted as long as
    any leaf of it lives; exactly one signs at each time."""
    now, made = START, 1
    roots = prepared((), "root-1", now)
    trusted_since = {"root-1": now - LIFE}
    signed_last: dict[str, object] = {}
    for hours, rotates in steps:
        end = now + timedelta(hours=hours)
        while (due := next_change(roots, PATIENCE)) is not None and due <= end:
            roots = advanced(roots, due, PATIENCE)
            (signs,) = [r for r in roots if r.phase is RootPhase.ACTIVE]
            assert trusted_since[signs.name] + LIFE <= due
            for record in roots:
                last = signed_last.get(record.name)
                if record.phase is RootPhase.RETIRED and record.since == due:
                    assert last is not None
                    assert last + LIFE <= due  # type: ignore[operator]  # a datetime
                if record.phase is RootPhase.RETIRING and record.since == due:
                    signed_last[record.name] = due
        now = end
        assert advanced(roots, now, PATIENCE) == roots
        if rotates and all(r.phase is not RootPhase.PREPARED for r in roots):
            made += 1
            roots = prepared(roots, f"root-{made}", now)
            trusted_since[f"root-{made}"] = now
        assert sum(r.phase is RootPhase.ACTIVE for r in roots) == 1


@given(st.integers(0, 24 * 100))
def test_sleeping_through_a_phase_ends_where_watching_would_safely(hours: int) -> None:
    """A control plane that was off: phases begin when they are noticed, never too early."""
    roots = prepared(prepared((), "one", START), "two", START)
    late = START + timedelta(hours=hours)
    seen = advanced(roots, late, PATIENCE)
    for record in seen:
        if record.phase is RootPhase.RETIRING:
            assert record.since == late
