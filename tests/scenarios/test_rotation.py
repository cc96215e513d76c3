"""Certificates are replaced all the time, on both sides, under load: nobody notices.

Real routers' data paths and real gateways in this process, over mutual TLS on real sockets. Every
peer joins and renews over HTTPS with leaves that live four seconds, each replaced after about one,
so that a busy machine may stall for a while; clients send small requests without pause and streams
that outlive several leaves.
Two neighbouring gateways serve each router, but no answer may need a second attempt. A run in which
this process stood still for longer than leaves overlap tells nothing, and is repeated.

FED_TEST_ROTATIONS sets how many replacements to go through.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from edge_agent.gateway.gateway import Gateway
from federation.contract.spiffe import PeerRole
from federation.relay.guard import PeerGuard
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.trust.calls import Contact
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership, Patience
from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.policy.hedging import Hedging
from router.probe import Prober, ProbeTimes
from router.request.proxy import Proxy
from router.state import RouterState
from router.upstream.http import Upstreams
from tests.edge_agent.gateway.bench import TEXT, WARM, PointingBackend
from tests.fakes.http_peers import serving
from tests.pki import make_authority
from tests.router.fakes import make_snapshot
from tests.router.registrar import Registrar, registrar

ROTATIONS = int(os.environ.get("FED_TEST_ROTATIONS", "200"))
LIFE = timedelta(seconds=float(os.environ.get("FED_TEST_LEAF_S", "4")))
PATIENCE = Patience(renew_at=0.25)
PAIRS = 6
EVENTS, PAUSE_S = 50, 0.1  # a stream lasts longer than any leaf
RUNS, STALL_S = 3, 0.25
SERVED = {
    (name, version): TEXT if name == "poet" else WARM
    for name in ("digits", "poet")
    for version in (1, 2)
}


@dataclass
class Tally:
    """What clients saw, and how often a certificate was replaced."""

    answers: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    rotations: int = 0
    stalled_s: float = 0.0  # the longest time in which this process did not run
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def clean(self) -> bool:
        """Whether nobody noticed anything."""
        return set(self.answers) == {"200 after 1"} and set(self.streams) == {
            "200 after 1, whole=True"
        }

    def rotated(self) -> None:
        self.rotations += 1
        if self.rotations >= ROTATIONS:
            self.done.set()


class Peer:
    """A process's identity, kept as the product keeps it."""

    def __init__(self, desk: Registrar, role: PeerRole, name: str, directory: Path) -> None:
        kind = "join" if role is PeerRole.CLUSTER else "routerjoin"
        token = directory / f"{role.value}-{name}.token"
        token.write_text(f"fed_{kind}_{name}_secret")
        self.credentials = Credentials(None)
        contact = Contact(url=desk.url, pin=desk.pin, token_file=token)
        self.membership = Membership(
            Enrolment(self.credentials, contact, role=role, name=name),
            clock=SystemClock(),
            dice=random.Random(name),
            patience=PATIENCE,
        )

    async def live(self, group: asyncio.TaskGroup, tally: Tally) -> "asyncio.Task[None]":
        running = group.create_task(self.membership.run())
        await self.membership.joined()
        leaf = self.credentials.leaf

        def changed() -> None:
            nonlocal leaf
            if self.credentials.leaf is not leaf:
                leaf = self.credentials.leaf
                tally.rotated()

        self.credentials.on_change.append(changed)
        return running


async def engine(request: web.Request) -> web.StreamResponse:
    """Answer as an engine does: at once, or event by event."""
    asked = await request.json()
    if not asked.get("stream"):
        return web.json_response({"outputs": []})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(EVENTS):
        choice = {"index": 0, "text": f" {number}", "finish_reason": None}
        document = {"id": "1", "object": "text_completion", "choices": [choice]}
        await response.write(b"data: " + json.dumps(document).encode() + b"\n\n")
        await asyncio.sleep(PAUSE_S)
    await response.write(b"data: [DONE]\n\n")
    return response


@asynccontextmanager
async def gateway_of(peer: Peer, engine_url: str) -> AsyncIterator[str]:
    """Run a gateway as an agent does; yield the URL that it advertises."""
    gateway = Gateway(PointingBackend(engine_url), lambda: SERVED, lambda *_: None)
    guard = PeerGuard(peer.credentials, PeerRole.ROUTER, SystemClock())
    runner = make_runner(gateway.application(guard), ServerLimits(shutdown_s=0.5))
    try:
        host, port = await listen(runner, "127.0.0.1:0", peer.credentials.server_context())
        yield f"https://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def router_of(
    peer: Peer, urls: dict[str, str], group: asyncio.TaskGroup
) -> AsyncIterator[str]:
    """Run a router's data path and its probes; yield the URL for clients."""
    state = RouterState(
        hedging=Hedging(0.0),  # a request at two clusters would count as two attempts
        name="r",
        clock=SystemClock(),
        dice=random.Random(1),
        credentials=peer.credentials,
        reach=tables.Reach(secure=True),
        allow_anonymous=True,
    )
    async with AsyncExitStack() as stack:
        locator = Locator()
        stack.callback(locator.close)
        upstreams = Upstreams(credentials=peer.credentials)
        stack.push_async_callback(upstreams.close)
        state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
        proxy = Proxy(
            state=state,
            upstreams=upstreams,
            metrics=Metrics(state),
            locator=locator,
            admission=Admission(1000),
        )
        runner = make_runner(proxy.application(), ServerLimits(shutdown_s=0.5))
        stack.push_async_callback(runner.cleanup)
        host, port = await listen(runner, "127.0.0.1:0")
        snapshot = make_snapshot(urls)
        here = [replace(endpoint, location=None) for endpoint in snapshot.endpoints]
        state.swap(tables.build(replace(snapshot, endpoints=tuple(here)), state.reach))
        times = ProbeTimes(interval_s=0.5, patience_s=3.0)
        probing = group.create_task(Prober(state=state, upstreams=upstreams, times=times).run())
        stack.callback(probing.cancel)
        yield f"http://{host}:{port}"
        assert all(healthy for _, healthy, _ in state.health().values()), state.health()


async def ask(session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    """Send small requests without pause until it is over."""
    while not tally.done.is_set():
        try:
            async with session.post(url + "/v2/models/digits/infer", json={}) as response:
                await response.read()
                attempts = response.headers.get("x-fed-attempts")
                tally.answers[f"{response.status} after {attempts}"] += 1
        except aiohttp.ClientError as error:
            tally.answers[repr(error)] += 1
        await asyncio.sleep(0.02)


async def listen_to(session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    """Follow one stream after the other until it is over; a whole one is counted as such."""
    asked = {"model": "poet", "prompt": "x", "stream": True}
    while not tally.done.is_set():
        try:
            async with session.post(url + "/v1/completions", json=asked) as response:
                text = (await response.read()).decode()
                whole = text.count("data: {") == EVENTS and text.endswith("data: [DONE]\n\n")
                attempts = response.headers.get("x-fed-attempts")
                tally.streams[f"{response.status} after {attempts}, {whole=}"] += 1
        except aiohttp.ClientError as error:
            tally.streams[repr(error)] += 1


async def watch_stalls(tally: Tally) -> None:
    """Note for how long this process got no processor, or was busy in one piece."""
    clock, step_s = asyncio.get_running_loop().time, 0.02
    while not tally.done.is_set():
        before = clock()
        await asyncio.sleep(step_s)
        tally.stalled_s = max(tally.stalled_s, clock() - before - step_s)


@pytest.mark.timeout(300)
async def test_nobody_notices_that_certificates_are_replaced(tmp_path: Path) -> None:
    tally = Tally()
    for number in range(RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        tally = await rotate(folder)
        if tally.clean or tally.stalled_s < STALL_S:
            break
    assert tally.clean, (tally.answers, tally.streams, tally.stalled_s)
    assert tally.answers.total() > ROTATIONS


async def rotate(tmp_path: Path) -> Tally:
    """Go through all rotations once."""
    tally, app = Tally(), web.Application()
    app.router.add_post("/{path:.*}", engine)
    authority = make_authority(tmp_path)
    async with (
        registrar(authority, life=LIFE) as desk,
        serving(app) as engine_url,
        asyncio.TaskGroup() as group,
        AsyncExitStack() as stack,
        aiohttp.ClientSession() as session,
    ):

        def peers(role: PeerRole) -> list[Peer]:
            return [Peer(desk, role, f"n-{i}", tmp_path) for i in range(PAIRS)]

        clusters, routers = peers(PeerRole.CLUSTER), peers(PeerRole.ROUTER)
        for peer in clusters + routers:
            stack.callback((await peer.live(group, tally)).cancel)
        urls = [await stack.enter_async_context(gateway_of(c, engine_url)) for c in clusters]
        load: list[asyncio.Task[None]] = []
        for i, peer in enumerate(routers):
            near = {f"n-{j}": urls[j] for j in (i, (i + 1) % PAIRS)}
            url = await stack.enter_async_context(router_of(peer, near, group))
            load += [
                group.create_task(client(session, url, tally))
                for client in (ask, ask, listen_to, listen_to)
            ]
        load.append(group.create_task(watch_stalls(tally)))
        started = asyncio.get_running_loop().time()
        await tally.done.wait()
        took_s = asyncio.get_running_loop().time() - started
        await asyncio.gather(*load)
        print(
            f"{tally.rotations} rotations in {took_s:.1f} s, stalled for {tally.stalled_s:.2f} s: "
            f"{tally.answers}, {tally.streams}"
        )
    return tally
