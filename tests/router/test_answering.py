import random

import pytest

from federation.contract.errors import NotFound, Unavailable
from federation.runtime.clock import SystemClock
from router.answering import Here
from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.state import RouterState
from tests.router.fakes import make_snapshot


async def test_a_router_that_is_one_process_knows_all_itself() -> None:
    state, locator = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0)), Locator()
    here = Here(state, Metrics(state), locator)
    assert await here.in_flight() == {}
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1"})))
    with pytest.raises(Unavailable, match="does not listen for requests yet"):
        here.require_ready()
    here.listening = True
    here.require_ready()
    state.signals.begin("eu-1", "digits", 2, 0.0)
    assert await here.in_flight() == {"eu-1": 1}
    assert (await here.explain({"reference": "digits", "address": ""}))["chosen"] == "eu-1"
    assert b"fed_router_snapshot_version 1.0" in await here.metrics()
    with pytest.raises(NotFound):
        await here.record("x")
    locator.close()
