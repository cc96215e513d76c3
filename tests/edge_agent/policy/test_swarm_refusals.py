"""Refusals end, are forgotten, or are for good."""

from edge_agent.policy.swarm_refusals import FOR_GOOD, Refusals


def test_refusals_end_and_those_for_good_stay() -> None:
    refusals = Refusals()
    refusals.add(3, "a", 5.0)
    refusals.add(3, "b", FOR_GOOD)
    refusals.add(4, "a", 5.0)
    assert refusals.pieces == 0b11000
    assert refusals.names(3, 1.0) == ["a", "b"]
    assert refusals.names(3, 5.0) == ["b"]
    assert refusals.ends(4, 1.0) == [5.0]
    assert refusals.by_name(1.0) == {"a": 0b11000, "b": 0b1000}
    refusals.forget()
    assert refusals.pieces == 0b1000
    assert refusals.is_for_good(3, "b")
    refusals.drop(3)
    assert refusals.pieces == 0
