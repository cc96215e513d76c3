"""Keys in metadata: the rules of the HTTP side, and nothing remembered for long."""

import base64

import grpc
import grpc.aio
import pytest

from federation.contract.access import Access
from federation.contract.errors import Unauthenticated
from federation.contract.types import Snapshot
from federation.relay.h2.heads import RequestHead
from federation.runtime.clock import ManualClock
from router.grpc.callers import Callers
from router.policy import table as tables
from tests.router.access_world import KEYS, OLD_KEY, access, state_with
from tests.router.grpc.world import request, world


def head(**noted: str) -> RequestHead:
    found = {name.replace("_", "-").encode(): (value.encode(),) for name, value in noted.items()}
    return RequestHead(path=b"/a/B", block=b"", noted=found)


def test_keys_are_shown_in_each_way() -> None:
    callers = Callers(state_with(access()))
    basic = base64.b64encode(f"any:{KEYS['acme']}".encode()).decode()
    for shown in (
        head(authorization=f"Bearer {KEYS['acme']}"),
        head(authorization=f"Basic {basic}"),
        head(x_api_key=KEYS["acme"]),
    ):
        assert callers.of(shown).tenant.name == "acme"
    for wrong in (head(), head(authorization=f"Bearer {OLD_KEY}"), head(x_api_key="fed_key_x_y")):
        with pytest.raises(Unauthenticated):
            callers.of(wrong)
    two = RequestHead(path=b"/", block=b"", noted={b"authorization": (b"a", b"b")})
    with pytest.raises(Unauthenticated, match="several"):
        callers.of(two)
    assert KEYS["acme"] not in repr(callers)


def test_a_verdict_ends_with_its_table_and_after_a_second() -> None:
    state = state_with(access())
    clock = state.clock = ManualClock()
    callers, shown = Callers(state), head(x_api_key=KEYS["acme"])
    first = callers.of(shown)
    assert callers.of(shown) is first
    clock.advance(2)
    assert callers.of(shown) is first  # asked again, and still good
    state.swap(tables.build(Snapshot(version=2, access=Access())))
    with pytest.raises(Unauthenticated):
        callers.of(shown)


async def test_tenants_rights_hold_for_grpc() -> None:
    async with world("eu-1", "us-1", access=access()) as w:
        stub = w.stub()

        async def code(tenant: str, model: str = "digits") -> grpc.StatusCode:
            metadata = (("authorization", f"Bearer {KEYS[tenant]}"),) if tenant else ()
            call = stub.ModelInfer(request(model), metadata=metadata)
            try:
                await call
            except grpc.aio.AioRpcError as error:
                return error.code()
            told = dict(await call.initial_metadata())
            assert tenant != "euro" or told["x-fed-region"] == "eu"
            return grpc.StatusCode.OK

        assert await code("") is grpc.StatusCode.UNAUTHENTICATED
        assert await code("acme") is grpc.StatusCode.OK
        assert await code("picky", "poet") is grpc.StatusCode.PERMISSION_DENIED
        assert [await code("euro") for _ in range(5)] == [grpc.StatusCode.OK] * 5
        assert await code("small") is grpc.StatusCode.OK
        assert await code("small") is grpc.StatusCode.RESOURCE_EXHAUSTED
        metadata = [m for c in w.clusters.values() for m in c.engine.metadata]
        assert not any("authorization" in m or "x-fed-model" in m for m in metadata)
        keys = "".join(map(str, metadata))
        assert not any(key in keys for key in KEYS.values())
