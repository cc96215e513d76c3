"""Nothing is asked twice beyond the endgame: of the origin by a region, of anybody by a cluster."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.swarm_terms import ORIGIN, Fetch
from tests.edge_agent.policy.swarm_world import Agent, Setup, World

SMALL = Setup(piece_bytes=2**20, link_rate=8e6, origin_rate=8e6)


class Watched(World):
    """Counts what is asked, and looks at each fetch that begins."""

    def __init__(self, setup: Setup) -> None:
        self.asked: Counter[int] = Counter()  # of the origin
        super().__init__(setup)

    def begin(self, agent: Agent, fetch: Fetch) -> None:
        assert fetch.piece not in agent.have
        others = [f for f in agent.running if f.piece == fetch.piece]
        assert len(others) <= 1
        # A second one is for the last pieces only: everything else is here or on its way.
        on_its_way = agent.have | {f.piece for f in agent.running}
        assert not others or len(on_its_way) == self.setup.pieces
        self.asked[fetch.piece] += fetch.source == ORIGIN
        super().begin(agent, fetch)


@settings(max_examples=15, deadline=None)
@given(
    agents=st.integers(2, 6),
    pieces=st.integers(1, 20),
    dead=st.integers(0, 1),
    hidden=st.integers(0, 1),  # half of the agents do not know of one
    stagger_s=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 99),
)
def test_a_region_asks_the_origin_once_for_each_piece(
    agents: int, pieces: int, dead: int, hidden: int, stagger_s: float, seed: int
) -> None:
    setup = replace(SMALL, agents=agents, pieces=pieces, dead=dead, stagger_s=stagger_s, seed=seed)
    if hidden and not dead and not stagger_s and agents > 3:
        setup.hidden, setup.blind = 1, agents // 2
    world = Watched(setup)
    result = world.run()
    assert result.unfinished == []
    assert set(world.asked) == set(range(pieces))
    assert max(world.asked.values()) == 1


@pytest.mark.parametrize("agents", [2, 5])
def test_a_slow_uplink_costs_no_more_than_a_few_second_copies(agents: int) -> None:
    world = Watched(replace(SMALL, agents=agents, pieces=40, slow=1, slowness=200.0))
    assert world.run().unfinished == []
    assert world.asked.total() <= 1.05 * 40
