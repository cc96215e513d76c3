import random

import pytest

from federation.contract.errors import Unavailable
from federation.runtime.clock import ManualClock
from router.policy import table as tables
from router.state import RouterState
from tests.router.fakes import make_snapshot


def test_a_swap_keeps_what_was_learned_and_tells_listeners() -> None:
    clock = ManualClock()
    state = RouterState(name="r1", clock=clock, dice=random.Random(0))
    with pytest.raises(Unavailable, match="'r1' has no routing table"):
        state.require_table()
    assert state.health() == {}
    told: list[int] = []
    state.on_swap.append(lambda table: told.append(table.version))
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"})))
    state.signals.probed("eu-1", 12.0, "", 0.0)
    for _ in range(2):
        state.signals.probed("us-1", None, "no connection", 0.0)
    clock.advance(5)
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"}, version=2)))
    assert told == [1, 2]
    assert state.table_at_s == 5
    assert state.health() == {"eu-1": (12.0, True, ""), "us-1": (None, False, "no connection")}
    assert "RoutingTable(version=2" in repr(state)
