import random
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Unavailable
from federation.contract.spiffe import PeerRole
from federation.runtime.clock import ManualClock
from federation.trust.credentials import Credentials
from router.policy import table as tables
from router.state import RouterState
from tests.pki import credentials_for, make_authority
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


def test_it_tells_what_it_waits_for(tmp_path: Path) -> None:
    clock = ManualClock()
    state = RouterState(
        name="r1", clock=clock, dice=random.Random(0), credentials=Credentials(None)
    )
    with pytest.raises(Unavailable, match="'r1' has not joined") as caught:
        state.require_table()
    assert (caught.value.reason, "asks the control plane" in caught.value.hint) == (
        "not-joined",
        True,
    )
    state.membership_problem = lambda: "An operator has to accept it."
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1"})))
    assert state.require_table().version == 1
    with pytest.raises(Unavailable, match="has not joined") as caught:
        state.require_ready()
    assert caught.value.hint == "An operator has to accept it."
    state.credentials = credentials_for(
        make_authority(tmp_path, clock=clock), PeerRole.ROUTER, "r1", life=timedelta(hours=1)
    )
    state.require_ready()
    state.revoked = True
    with pytest.raises(Unavailable, match="'r1' was revoked"):
        state.require_ready()
    state.revoked = False
    clock.advance(3601)
    with pytest.raises(Unavailable, match="certificate of router 'r1' expired") as caught:
        state.require_ready()
    assert caught.value.reason == "certificate-expired"
