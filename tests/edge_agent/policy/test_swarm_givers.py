"""Of those that hold something the least asked, of that the rarest; the slow ones last."""

import random

from edge_agent.policy.swarm_givers import Givers
from edge_agent.policy.swarm_members import Members, PeerStatus, to_bitmap
from federation.contract.sync import SyncPeer

DIGEST = "ab" * 32


def region(holds: dict[str, list[int]]) -> tuple[Members, Givers]:
    members = Members(me="me", digest=DIGEST, began_s=0.0)
    members.listed(tuple(SyncPeer(cluster=n, url="https://x", digests=(DIGEST,)) for n in holds))
    for name, pieces in holds.items():
        members.heard(name, PeerStatus(have=to_bitmap(pieces, 40)), 0.0)
    members.update(0.0)
    return members, Givers(members, 40, random.Random(1))


def test_the_rarest_of_what_the_least_asked_has() -> None:
    _, givers = region({"a": [1, 2], "b": [2]})
    assert givers.choose({"a", "b"}, 0b111, {"b": 1}, {}) == ("a", 1)
    assert givers.choose({"b"}, 0b111, {"b": 1}, {}) == ("b", 2)
    assert givers.choose({"b"}, 0b011, {}, {}) is None
    assert givers.choose({"a"}, 0b111, {}, {"a": 0b010}) == ("a", 2)


def test_the_slow_one_gives_only_what_nobody_else_has() -> None:
    members, givers = region({"a": [1, 2], "b": [2], "c": [2]})
    members.slow = frozenset({"a"})
    assert givers.choose({"a"}, 0b111, {}, {}) == ("a", 1)
    assert givers.choose({"a"}, 0b100, {}, {}) is None
    assert givers.lightest(["a", "b"], {"a"}, {}) is None
    assert givers.lightest(["a"], {"a"}, {}) == "a"


def test_of_hundreds_the_one_that_has_something_is_found() -> None:
    holds: dict[str, list[int]] = {f"c{n:03}": [] for n in range(300)}
    holds["c077"] = [5]
    members, givers = region(holds)
    assert givers.choose(members.usable, 1 << 5, {}, {}) == ("c077", 5)
