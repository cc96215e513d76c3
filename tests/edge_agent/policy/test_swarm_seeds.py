"""A cluster shows that it can give before it gets more."""

from edge_agent.policy.swarm_members import Members
from edge_agent.policy.swarm_seeds import Seeds
from edge_agent.policy.swarm_terms import SwarmLimits

L = SwarmLimits()
NOBODY = Members(me="me", digest="ab" * 32, began_s=0.0)
TWO = Members(me="me", digest="ab" * 32, began_s=0.0, usable=frozenset({"a", "b"}))


def test_the_first_piece_has_to_be_given_before_the_next_is_fetched() -> None:
    seeds = Seeds(L)
    assert seeds.room(4) == 1
    seeds.got(7, 0.0)
    assert seeds.room(4) == 0
    seeds.spread(7)
    assert seeds.room(4) == 2
    assert seeds.room(1) == 1


def test_what_nobody_else_has_goes_first_until_it_is_known_that_we_give_fast() -> None:
    seeds = Seeds(L)
    assert seeds.gives(1, 0.0, too_slow=False)
    seeds.got(7, 0.0)
    assert seeds.gives(7, 0.0, too_slow=False)
    assert not seeds.gives(1, 0.0, too_slow=False)
    seeds.spread(7)
    seeds.got(8, 1.0)
    assert seeds.gives(8, 1.0, too_slow=True)
    assert not seeds.gives(1, 1.0, too_slow=True)
    assert seeds.gives(1, 1.0, too_slow=False)


def test_what_nobody_asks_for_or_takes_holds_nothing_up_for_ever() -> None:
    seeds = Seeds(L)
    seeds.got(7, 0.0)
    seeds.update(NOBODY, L.hedge_s)
    assert seeds.room(4) == 0
    seeds.update(NOBODY, L.hedge_s + 0.1)
    assert seeds.room(4) == 2
    seeds.got(8, 10.0)
    seeds.gives(8, 10.0, too_slow=False)
    seeds.update(TWO, 10.0 + L.disgrace_s)
    assert seeds.room(4) == 1
    seeds.update(TWO, 10.1 + L.disgrace_s)
    assert seeds.room(4) == 3


def test_a_single_other_one_that_takes_for_long_and_gives_nothing_holds_nothing_up() -> None:
    for taken_s, room in ((-1.0, 2), (1.0, 0)):
        seeds = Seeds(L)
        seeds.got(7, 0.0)
        assert seeds.gives(7, 0.5, too_slow=False)
        seeds.taken_s = taken_s  # when it gave us something
        seeds.update(NOBODY, 0.6 + L.hedge_s)
        assert seeds.room(4) == room
