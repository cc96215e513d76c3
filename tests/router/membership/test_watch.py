import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import grpc
import grpc.aio
import pytest

from federation.contract import codec, codec_trust
from federation.contract.errors import Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from federation.contract.types import Location, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.identity.authority import Authority
from federation.runtime.channel import abort_with, add_port, serve
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from federation.trust.peers import Peer, peer_from_grpc
from router.explain import explain
from router.geo import Locator
from router.membership import tablefile, watch
from router.membership.serving import Alone
from router.membership.watch import SNAPSHOT_FILE, Uplink, Watcher
from router.policy import pick
from router.policy.decision import Question
from router.policy.shortlist import Option
from router.state import RouterState
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of
from tests.router.fakes import eventually, hiding_stream, make_snapshot

URLS = {"eu-1": "https://h:1"}
ME = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, "r1")


class FakeControlPlane(rpc.RouterServiceServicer):
    """Keeps what routers say and sends what the test puts into `outbox`."""

    def __init__(self) -> None:
        self.heard: list[pb.RouterMessage] = []
        self.peers: list[Peer] = []
        self.refuse = ""
        self.outbox: asyncio.Queue[pb.RouterInstruction] = asyncio.Queue()

    def told(self, kind: str) -> list[pb.RouterMessage]:
        return [m for m in self.heard if m.WhichOneof("body") == kind]

    def send(self, snapshot: Snapshot) -> None:
        self.outbox.put_nowait(pb.RouterInstruction(snapshot=codec.snapshot_to_proto(snapshot)))

    async def Watch(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[pb.RouterMessage],
        context: "grpc.aio.ServicerContext[pb.RouterMessage, pb.RouterInstruction]",
    ) -> None:
        self.peers.append(peer_from_grpc(context.auth_context()))
        if self.refuse:
            await anext(aiter(request_iterator))
            await abort_with(context, Unauthenticated(self.refuse, reason="certificate-revoked"))
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(context))
            async for message in request_iterator:
                self.heard.append(message)
            sending.cancel()

    async def _send(
        self, context: "grpc.aio.ServicerContext[pb.RouterMessage, pb.RouterInstruction]"
    ) -> None:
        while True:
            await context.write(await self.outbox.get())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def mine(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.ROUTER, "r1")


@pytest.fixture
def theirs(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.CONTROL_PLANE, "main")


@asynccontextmanager
async def control_plane(
    credentials: Credentials, port: int = 0
) -> AsyncIterator[tuple[FakeControlPlane, int]]:
    fake, server = FakeControlPlane(), serve()
    rpc.add_RouterServiceServicer_to_server(fake, server)
    bound = add_port(server, f"127.0.0.1:{port}", credentials.server_credentials())
    await server.start()
    try:
        yield fake, bound
    finally:
        await server.stop(0)


def make_watcher(
    port: int, state_dir: Path, credentials: Credentials, doubted: Callable[[], None] = lambda: None
) -> tuple[RouterState, Watcher, Locator]:
    state = RouterState(
        name="r1",
        clock=SystemClock(),
        dice=random.Random(0),
        location=Location(latitude=1.0, longitude=2.0),
    )
    uplink = Uplink(
        address=f"127.0.0.1:{port}",
        credentials=credentials,
        url="http://127.0.0.1:7400",
        reverse_address="pop.example:7402",
        doubted=doubted,
        state_dir=state_dir,
        status_interval_s=0.05,
        counts_interval_s=0.05,
    )
    locator = Locator()
    return (
        state,
        Watcher(state=state, serving=Alone(state, partial(explain, state, locator)), uplink=uplink),
        locator,
    )


@asynccontextmanager
async def watching(
    port: int, state_dir: Path, credentials: Credentials, doubted: Callable[[], None] = lambda: None
) -> AsyncIterator[RouterState]:
    state, watcher, locator = make_watcher(port, state_dir, credentials, doubted)
    watcher.load_from_disk()
    task = asyncio.get_running_loop().create_task(watcher.run())
    try:
        yield state
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        locator.close()


def options(state: RouterState) -> Sequence[Option]:
    table = state.require_table()
    question = Question(resolved=table.resolve("digits"), now_s=0.0)
    return pick.shortlist(table, state.signals, question).options


def held(state: RouterState) -> int:
    return state.table.version if state.table else 0


async def test_it_says_hello_applies_and_keeps_what_it_gets(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine) as state:
        await eventually(lambda: bool(fake.told("status")))
        hello = fake.heard[0].hello
        assert (hello.name, hello.url, hello.snapshot_version) == ("r1", "http://127.0.0.1:7400", 0)
        assert hello.location.longitude == 2.0
        assert hello.reverse_address == "pop.example:7402"
        assert [peer.id.name for peer in fake.peers] == ["r1"]
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("ack")))
        assert fake.told("ack")[0].ack.version == held(state) == 5
        assert tablefile.load(tmp_path / SNAPSHOT_FILE) == make_snapshot(URLS, version=5)
        state.signals.probed("eu-1", 30.0, "", 0.0)
        state.requests_total, state.errors_total = 7, 1
        await eventually(lambda: fake.told("status")[-1].status.requests_total == 7)
        status = fake.told("status")[-1].status
        assert status.errors_total == 1
        assert [(c.cluster, c.rtt_ms, c.healthy) for c in status.clusters] == [("eu-1", 30.0, True)]


@pytest.mark.parametrize("kind", ["older", "inconsistent"])
async def test_a_bad_snapshot_is_refused_with_the_reason(
    tmp_path: Path, mine: Credentials, theirs: Credentials, kind: str
) -> None:
    bad = make_snapshot(URLS, version=4)
    if kind == "inconsistent":
        lost = Replica(model="digits", version=1, cluster="nowhere")
        bad = Snapshot(version=6, models=bad.models, endpoints=bad.endpoints, replicas=(lost,))
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine) as state:
        fake.send(make_snapshot(URLS, version=5))
        fake.send(bad)
        await eventually(lambda: bool(fake.told("nack")))
        nack = fake.told("nack")[0].nack
        assert nack.version == bad.version
        assert ("older than 5" if kind == "older" else "unknown cluster 'nowhere'") in nack.reason
        assert held(state) == 5
        kept = tablefile.load(tmp_path / SNAPSHOT_FILE)
        assert kept is not None
        assert kept.version == 5


async def test_it_answers_questions_and_ignores_what_it_does_not_know(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine):
        fake.outbox.put_nowait(pb.RouterInstruction())
        fake.send(make_snapshot(URLS, version=1))
        for id_, model in (("1", "digits"), ("2", "digit")):
            question = pb.ExplainRequest(id=id_, model=model, client_address="133.11.0.1")
            fake.outbox.put_nowait(pb.RouterInstruction(explain=question))
        past = pb.ExplainRequest(id="3", request_id="abc-1")
        fake.outbox.put_nowait(pb.RouterInstruction(explain=past))
        await eventually(lambda: len(fake.told("explanation")) == 3)
        good, bad, unknown = (m.explanation for m in fake.told("explanation"))
        assert "remembers no request 'abc-1'" in unknown.error
        assert json.loads(good.document_json)["chosen"] == "eu-1"
        assert (good.id, bad.id, bad.document_json) == ("1", "2", "")
        assert "Did you mean 'digits'?" in bad.error


async def test_it_serves_from_disk_and_comes_back_to_a_control_plane(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine):
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("ack")))
    async with watching(port, tmp_path, mine) as state:
        assert held(state) == 5
        await asyncio.sleep(0.3)
        async with control_plane(theirs, port) as (fake, _):
            await eventually(lambda: bool(fake.heard), within_s=10)
            assert fake.heard[0].hello.snapshot_version == 5
            fake.send(make_snapshot(URLS, version=6))
            await eventually(lambda: held(state) == 6)


async def test_a_broken_copy_on_disk_is_not_used(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    (tmp_path / SNAPSHOT_FILE).write_text("{")
    state, watcher, locator = make_watcher(1, tmp_path, mine)
    assert watcher.load_from_disk() is False
    assert state.table is None
    locator.close()


async def test_it_keeps_whom_to_trust_and_what_makes_no_sense_is_not_used(
    tmp_path: Path, authority: Authority, theirs: Credentials
) -> None:
    mine = credentials_for(authority, PeerRole.ROUTER, "r1", directory=tmp_path / "identity")
    revoked = Revocation(uri="spiffe://fed.test/cluster/eu-1", below=3)
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine):
        for trust in (
            trust_of(authority, 2, revoked=(revoked,)),
            replace(trust_of(authority, 3), roots=()),
            replace(trust_of(authority, 4), trust_domain="other.test"),
        ):
            fake.outbox.put_nowait(pb.RouterInstruction(trust=codec_trust.trust_to_proto(trust)))
        fake.send(make_snapshot(URLS, version=1))
        await eventually(lambda: bool(fake.told("ack")))
    kept = Credentials(tmp_path / "identity").trust
    assert kept is not None
    assert (kept.version, kept.trust_domain) == (2, TRUST_DOMAIN)
    assert kept.refuses("spiffe://fed.test/cluster/eu-1", 2)


async def test_a_renewed_certificate_and_new_roots_have_a_stream_of_their_own(
    tmp_path: Path, authority: Authority, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine) as state:
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("ack")))
        issue_into(mine, authority, ME, generation=2)
        await eventually(lambda: len(fake.told("hello")) == 2, within_s=10)
        assert [peer.generation for peer in fake.peers] == [1, 2]
        assert fake.told("hello")[1].hello.snapshot_version == 5
        revoked = Revocation(uri="spiffe://fed.test/cluster/x", below=3)
        mine.keep_trust(trust_of(authority, 2, revoked=(revoked,)))
        fake.send(make_snapshot(URLS, version=6))
        await eventually(lambda: held(state) == 6)
        assert len(fake.told("hello")) == 2
        authority.add_root()
        mine.keep_trust(trust_of(authority, 3))
        await eventually(lambda: len(fake.told("hello")) == 3, within_s=10)


async def test_a_control_plane_that_does_not_prove_itself_is_not_listened_to(
    tmp_path: Path, authority: Authority, mine: Credentials
) -> None:
    cluster = credentials_for(authority, PeerRole.CLUSTER, "main")
    async with control_plane(cluster) as (fake, port), watching(port, tmp_path, mine) as state:
        fake.send(make_snapshot(URLS, version=5))
        await asyncio.sleep(0.7)
        assert not fake.peers
        assert held(state) == 0


async def test_who_is_refused_asks_for_another_certificate(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    doubts: list[bool] = []
    async with control_plane(theirs) as (fake, port):
        fake.refuse = "the certificate is revoked."
        async with watching(port, tmp_path, mine, lambda: doubts.append(True)) as state:
            await eventually(lambda: len(doubts) > 1)
            await eventually(lambda: state.revoked)
            fake.refuse = ""
            fake.send(make_snapshot(URLS, version=5))
            await eventually(lambda: held(state) == 5)
            assert not state.revoked


async def test_what_waits_for_a_model_is_told_at_once_and_again(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port), watching(port, tmp_path, mine) as state:
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("status")))
        assert not any(m.status.held for m in fake.told("status"))
        state.demand = lambda: {"digits": 3}
        (urge,) = state.on_demand
        before = len(fake.told("status"))
        urge()
        urge()  # nothing keeps them apart: each is a status of its own
        await eventually(lambda: len(fake.told("status")) >= before + 2)
        last = fake.told("status")[-1].status
        assert {each.model: each.requests for each in last.held} == {"digits": 3}
    assert state.on_demand == []


async def test_who_waited_before_there_was_a_stream_is_told_with_its_first_news(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    async with control_plane(theirs) as (fake, port):
        state, watcher, locator = make_watcher(port, tmp_path, mine)
        state.demand = lambda: {"digits": 1}
        task = asyncio.get_running_loop().create_task(watcher.run())
        try:
            fake.send(make_snapshot(URLS, version=5))
            await eventually(lambda: bool(fake.told("status")))
            assert fake.told("status")[0].status.held[0].model == "digits"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            locator.close()


async def test_who_is_cancelled_while_a_stream_ends_makes_no_other_one(
    tmp_path: Path, mine: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[asyncio.Event] = []

    def begin(*_: object) -> Mock:
        streams.append(asyncio.Event())
        return Mock(__aiter__=lambda _: hiding_stream(streams[-1]))

    monkeypatch.setattr(watch, "_watch", begin)
    _, watcher, locator = make_watcher(1, tmp_path, mine)
    task = asyncio.get_running_loop().create_task(watcher.run())
    await eventually(lambda: bool(streams) and streams[0].is_set())
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert (task.cancelled(), len(streams)) == (True, 1)
    locator.close()


async def test_counts_are_cumulative_and_told_again_to_a_control_plane_that_starts_anew(
    tmp_path: Path, mine: Credentials, theirs: Credentials
) -> None:
    def heard(fake: FakeControlPlane) -> list[int]:
        told = [m.counts for m in fake.told("counts")]
        return [sum(sum(c.requests) for c in counts.versions) for counts in told]

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        fake, port = await first.enter_async_context(control_plane(theirs))
        state = await stack.enter_async_context(watching(port, tmp_path, mine))
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: 0 in heard(fake))  # nothing was seen, and that is told
        resolved = state.require_table().resolve("digits")
        chosen = next(iter(options(state)))
        for count in (1, 2):
            state.counting.attempted(resolved, chosen, 200, 0.01)
            await eventually(lambda count=count: count in heard(fake), within_s=30.0)  # type: ignore[misc]
        sequences = [m.counts.sequence for m in fake.told("counts")]
        assert sequences == sorted(set(sequences))
        boot = fake.heard[0].hello.instance
        await first.aclose()
        again, _ = await stack.enter_async_context(control_plane(theirs, port))
        await eventually(lambda: 2 in heard(again), within_s=30.0)
        assert again.heard[0].hello.instance == boot == state.counting.instance
        assert again.told("counts")[0].counts.sequence > sequences[-1]
