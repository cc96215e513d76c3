"""Refusals end, are forgotten, or are for good."""

from edge_agent.policy.swarm_refusals import FOR_GOOD, Refusals


def test_refusals_end_and_those_for_good_stay() -> None:
    refusals = Refusals()
    refusals.add(3, "a", 0.0, 5.0)
    refusals.add(3, "b", 0.0, FOR_GOOD)
    refusals.add(4, "a", 0.0, 5.0)
    assert refusals.pieces == 0b11000
    assert refusals.names(3, 1.0) == ["a", "b"]
    assert refusals.names(3, 5.0) == ["b"]
    assert refusals.by_name(1.0) == {"a": 0b11000, "b": 0b1000}
    refusals.forget()
    assert refusals.pieces == 0b1000
    assert refusals.is_for_good(3, "b")
    refusals.drop(3)
    assert refusals.pieces == 0


def test_a_series_of_refusals_has_one_beginning() -> None:
    refusals = Refusals()
    assert refusals.since_s(3, 7.0) == 7.0
    for now in (1.0, 3.0, 6.9):  # each before twice the time of the one before
        refusals.add(3, "a", now, 2.0)
        assert refusals.since_s(3, now) == 1.0
    refusals.add(3, "a", 11.0, 2.0)
    assert refusals.since_s(3, 12.0) == 11.0
    refusals.drop(3)
    assert refusals.since_s(3, 12.0) == 12.0
