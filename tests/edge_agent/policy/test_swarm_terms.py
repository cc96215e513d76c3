"""What a Swarm is told and tells."""

from edge_agent.policy.swarm_terms import ORIGIN, Fetch, SwarmLimits


def test_a_fetch_is_from_the_origin_unless_it_names_a_member() -> None:
    assert Fetch(3).source == ORIGIN
    assert {Fetch(3): 1}[Fetch(3, ORIGIN)] == 1


def test_a_hedge_comes_before_disgrace() -> None:
    limits = SwarmLimits()
    assert limits.hedge_s < limits.stall_s < limits.disgrace_s
