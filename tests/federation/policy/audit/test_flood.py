"""However many denials come, few entries are written, and none of them is lost from the count."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from federation.policy.audit.events import AccessDenied, Origin
from federation.policy.audit.flood import BUDGET, REST_REASON, WINDOW, Denial, Flood

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def denial(
    source: str = "192.0.2.1", reason: str = "unauthenticated", target: str = "GET /"
) -> Denial:
    event = AccessDenied(actor="anonymous", target=target, reason=reason, message="no.")
    return Denial(event=event, origin=Origin(source=source, request_id="q"))


def test_the_first_of_a_kind_is_told_at_once() -> None:
    flood = Flood()
    assert flood.add(denial(), NOW) == [denial()]
    assert flood.add(denial(reason="permission-denied"), NOW) == [
        denial(reason="permission-denied")
    ]
    assert flood.ends_at is None


def test_repetitions_are_told_as_a_number_when_the_window_is_over() -> None:
    flood = Flood()
    flood.add(denial(), NOW)
    for second in range(30):
        assert flood.add(denial(target="GET /other"), NOW + timedelta(seconds=second)) == []
    assert flood.ends_at == NOW + WINDOW
    assert flood.ended(NOW + WINDOW - timedelta(microseconds=1)) == []
    [told] = flood.ended(NOW + WINDOW)
    assert (told.event.count, told.event.target, told.origin.source) == (30, "GET /", "192.0.2.1")
    assert flood.ends_at is None
    assert flood.ended(NOW + 2 * WINDOW) == []


def test_a_denial_after_the_window_opens_the_next_one() -> None:
    flood = Flood()
    flood.add(denial(), NOW)
    flood.add(denial(), NOW)
    later = NOW + 5 * WINDOW
    assert [told.event.count for told in flood.add(denial(), later)] == [1, 1]
    flood.add(denial(), later)
    assert flood.ends_at == later + WINDOW


def test_what_exceeds_the_budget_is_one_number() -> None:
    flood = Flood()
    told = [t for n in range(1000) for t in flood.add(denial(f"192.0.2.{n}"), NOW)]
    assert len(told) == BUDGET
    [rest] = flood.close()
    assert (rest.event.reason, rest.event.count) == (REST_REASON, 1000 - BUDGET)
    assert rest.origin == Origin()


CALLS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz"), st.integers(0, 20)), max_size=300
)


@given(CALLS, st.integers(1, 5))
def test_nothing_is_lost_and_little_is_written(
    calls: list[tuple[str, str, int]], budget: int
) -> None:
    flood, now = Flood(budget=budget), NOW
    written: list[tuple[datetime, Denial]] = []
    for source, reason, seconds in calls:
        now += timedelta(seconds=seconds)
        if flood.ends_at is not None and flood.ends_at <= now:
            written += [(now, one) for one in flood.ended(now)]
        written += [(now, one) for one in flood.add(denial(source, reason), now)]
        assert len(flood._alike) <= budget
    written += [(now + WINDOW, one) for one in flood.close()]
    assert sum(one.event.count for _, one in written) == len(calls)
    for at, _ in written:
        within = [other for other, _ in written if at <= other < at + WINDOW]
        assert len(within) <= 2 * (2 * budget + 1)  # a window of ours may end in any minute
