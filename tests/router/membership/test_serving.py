import random
from functools import partial

import pytest

from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import NotFound
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.clock import SystemClock
from router.explain import explain
from router.geo import Locator
from router.membership.serving import Alone
from router.state import RouterState
from tests.router.fakes import make_snapshot


async def test_a_router_that_is_one_process_speaks_for_itself() -> None:
    state, locator = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0)), Locator()
    alone = Alone(state, partial(explain, state, locator))
    whole = SnapshotWriter().instruction(make_snapshot({"eu-1": "http://h:1"}, version=3))
    data = pb.RouterInstructionParts.FromString(whole).snapshot
    assert (await alone.apply(data)).version == state.require_table().version == 3
    sequence, models = await alone.counts()
    assert (sequence, list(models)) == (1, [])
    told = await alone.answer(pb.ExplainRequest(id="1", model="digits"))
    assert told["chosen"] == "eu-1"
    with pytest.raises(NotFound, match="remembers no request 'x'"):
        await alone.answer(pb.ExplainRequest(id="1", request_id="x"))
    locator.close()
