"""A few own everything, and everybody finds the same ones."""

import random

from edge_agent.policy.swarm_owners import MOST, RANKS, Owners

NAMES = [f"c{n:03}" for n in range(100)]


def test_of_many_a_few_are_owners_whatever_the_order() -> None:
    one, other = Owners("ab" * 32), Owners("ab" * 32)
    one.elect(NAMES)
    other.elect(random.Random(1).sample(NAMES, len(NAMES)))
    assert one.names == other.names
    assert len(one.names) == MOST
    assert all(one.rank(p) == other.rank(p) and len(set(one.rank(p))) == RANKS for p in range(50))


def test_each_package_has_other_owners() -> None:
    one, other = Owners("ab" * 32), Owners("cd" * 32)
    one.elect(NAMES)
    other.elect(NAMES)
    assert one.names != other.names


def test_what_was_looked_at_is_owned_by_the_first_in_rank() -> None:
    owners = Owners("ab" * 32)
    owners.look(0b1111, 10)  # nobody is there
    owners.elect(NAMES[:4])
    owners.look((1 << 40) - 1, 30)
    owned = {name: owners.owned(name) for name in NAMES[:4]}
    assert sum(bits.bit_count() for bits in owned.values()) == 30
    for piece in range(30):
        assert owned[owners.rank(piece)[0]] >> piece & 1
    owners.elect(NAMES[:3])
    assert owners.owned(NAMES[3]) == 0


def test_everybody_has_a_turn_the_owners_first() -> None:
    owners = Owners("ab" * 32)
    owners.elect(NAMES)
    turns = [owners.turn(7, name) for name in owners.rank(7)]
    assert turns == [0.0, 1.0, 2.0]
    others = [owners.turn(7, name) for name in NAMES if name not in owners.rank(7)]
    assert RANKS <= min(others) < max(others) < 2 * RANKS
    assert len(set(others)) > 60
