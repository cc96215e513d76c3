"""The corpus against each door, without and with the proxies that stand before it in practice."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from federation.contract.access import Access, Tenant
from federation.contract.spiffe import PeerRole
from federation.contract.types import ModelProtocol, ModelRoute
from federation.relay.guard import PeerGuard
from federation.relay.server import BodyLimits, ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from router.policy import table as tables
from router.request.call import ProxyLimits
from tests.edge_agent.gateway.bench import PointingBackend, bench
from tests.hostile.corpus import CORPUS
from tests.hostile.origin import Origin, recording
from tests.hostile.proxies import haproxy, nginx
from tests.hostile.shoot import Dial, dialler, volley
from tests.pki import credentials_for, make_authority
from tests.router.access_world import PEPPER, api_key, key_text
from tests.router.fakes import RouterUnderTest, make_snapshot, router_for

ROUTES = (
    ModelRoute(name="m", default_version=1),
    ModelRoute(name="text", default_version=1, protocol=ModelProtocol.TEXT),
)
HASTY = ProxyLimits(body=BodyLimits(grace_s=1.0, total_s=2.0))

Door = Callable[[Path], AbstractAsyncContextManager[tuple[Dial, Origin]]]
Proxy = Callable[[int, Path], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def router_port() -> AsyncIterator[tuple[int, Origin, RouterUnderTest]]:
    """A router on a real socket; behind it the recording engine."""
    async with recording() as origin, router_for({"eu-1": origin.url}, limits=HASTY) as router:
        router.state.allow_anonymous = True
        router.state.swap(tables.build(make_snapshot({"eu-1": origin.url}, routes=ROUTES)))
        yield int(router.url.rpartition(":")[2]), origin, router


@asynccontextmanager
async def router_door(_: Path) -> AsyncIterator[tuple[Dial, Origin]]:
    """A router, without TLS."""
    async with router_port() as (port, origin, _router):
        yield dialler(port), origin


@asynccontextmanager
async def gateway_door(_: Path) -> AsyncIterator[tuple[Dial, Origin]]:
    """A gateway on a real socket, without TLS; behind it the recording engine."""
    async with recording() as origin, bench(PointingBackend(origin.url)) as gate:
        yield dialler(int(gate.url.rpartition(":")[2])), origin


@asynccontextmanager
async def guarded_door(folder: Path) -> AsyncIterator[tuple[Dial, Origin]]:
    """A gateway that demands a router's certificate; the hostile client has one."""
    authority = make_authority(folder)
    own = credentials_for(authority, PeerRole.CLUSTER, "eu-1")
    routers = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with recording() as origin, bench(PointingBackend(origin.url)) as gate:
        guard = PeerGuard(own, PeerRole.ROUTER, SystemClock())
        runner = make_runner(gate.gateway.application(guard), ServerLimits(shutdown_s=0.2))
        try:
            _, port = await listen(runner, "127.0.0.1:0", own.server_context())
            yield dialler(port, routers.client_context()), origin
        finally:
            await runner.cleanup()


async def test_a_valid_key_opens_no_other_way_than_that_of_inference() -> None:
    """The client has paid. (Where no key is asked for, what is smuggled behind one shows.)"""
    everything = Access(
        pepper=PEPPER, tenants=(Tenant(name="paying"),), keys=(api_key("k-paying", "paying"),)
    )
    async with router_port() as (port, origin, router):
        router.state.allow_anonymous = False
        snapshot = make_snapshot({"eu-1": origin.url}, routes=ROUTES, version=2)
        router.state.swap(tables.build(replace(snapshot, access=everything)))
        key = key_text("k-paying")
        assert await volley(CORPUS, dialler(port), origin, direct=True, key=key) == []


def test_names_are_unique_and_the_corpus_is_large() -> None:
    assert len({payload.name for payload in CORPUS}) == len(CORPUS)
    assert len(CORPUS) > 300


@pytest.mark.parametrize("door", [router_door, gateway_door, guarded_door])
async def test_nothing_but_what_was_meant_arrives(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(tmp_path) as (dial, origin):
        assert await volley(CORPUS, dial, origin, direct=True) == []
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert "hidden" not in caplog.text  # what malformed requests held


@pytest.mark.proxies
@pytest.mark.parametrize("proxy", [haproxy, nginx])
async def test_a_proxy_in_front_and_the_router_agree_on_every_boundary(
    proxy: Proxy, tmp_path: Path
) -> None:
    async with router_port() as (port, origin, _), proxy(port, tmp_path) as front:
        assert await volley(CORPUS, dialler(front), origin, direct=False) == []
