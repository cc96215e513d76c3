import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.api.routers import QUESTIONS, Connection, RouterHub
from federation.app import ControlPlane
from federation.contract import codec_rollout, codec_trust
from federation.contract.rollout import VersionCounts
from federation.contract.spiffe import PeerRole
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.policy.rollouts.events import RouterCounted
from federation.trust.credentials import Credentials
from tests.fakes.control_plane import Operator, operator, router_hello, running, stream


@pytest.fixture
async def held(api: Operator) -> Credentials:
    """What the router "r" holds after it joined."""
    return await api.member("r", PeerRole.ROUTER)


async def status(api: Operator) -> dict[str, object]:
    answer = await api.call("GET", "/api/v1/routers/r")
    found: dict[str, object] = answer.json["status"] if answer.status == 200 else {}
    return found


async def until(condition: object, api: Operator, key: str) -> None:
    async with asyncio.timeout(10):
        while (await status(api)).get(key) != condition:
            await asyncio.sleep(0.01)


async def test_a_router_gets_snapshots_and_its_answers_are_kept(
    api: Operator, plane: ControlPlane, held: Credentials
) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        first = await router.expect("snapshot")
        assert first.version == plane.publisher.snapshot.version > 1 << 32
        await router.send(pb.RouterMessage(ack=pb.SnapshotAck(version=first.version)))
        await until(first.version, api, "snapshot_version")
        plane.publisher.publish_snapshot(Snapshot(version=first.version + 1))
        second = await router.expect("snapshot")
        assert second.version == first.version + 1
        nack = pb.SnapshotNack(version=second.version, reason="two routes of one model")
        await router.send(pb.RouterMessage(nack=nack))
        await until("two routes of one model", api, "rejection")
    await until(condition=False, api=api, key="connected")


async def test_a_router_that_holds_the_snapshot_is_not_sent_it_again(
    api: Operator, plane: ControlPlane, held: Credentials
) -> None:
    version = plane.publisher.snapshot.version
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r", held=version))
        await until(condition=True, api=api, key="connected")
        plane.publisher.publish_snapshot(Snapshot(version=version + 1))
        assert (await router.expect("snapshot")).version == version + 1


async def test_a_status_is_shown_and_nonsense_counts_as_not_measured(
    api: Operator, plane: ControlPlane, held: Credentials
) -> None:
    await api.register("a")
    views = [
        pb.ClusterView(cluster="a", rtt_ms=12.5, healthy=True),
        pb.ClusterView(cluster="b", rtt_ms=float("nan"), reason="x" * 9000),
        pb.ClusterView(cluster="c", rtt_ms=-1),
    ]
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        waits = [pb.HeldModel(model="m", requests=3), pb.HeldModel(model="n")]
        message = pb.RouterStatus(clusters=views, requests_total=7, errors_total=1, held=waits)
        await router.send(pb.RouterMessage(status=message))
        await until(7, api, "requests_total")
        assert (await status(api))["held"] == {"m": 3}
        clusters = (await status(api))["clusters"]
        assert isinstance(clusters, dict)
        assert {name: view["rtt_ms"] for name, view in clusters.items()}["a"] == 12.5
        assert all(clusters[name]["rtt_ms"] == 0 for name in clusters if name != "a")
        cluster = await api.call("GET", "/api/v1/clusters/a")
        assert cluster.json["status"]["rtt_ms"] == {"r": 12.5}


async def test_of_two_routers_with_one_name_the_newest_stays(
    api: Operator, plane: ControlPlane, held: Credentials
) -> None:
    async with stream(plane, "router", held) as old:
        await old.send(router_hello("r"))
        await old.expect("snapshot")
        async with stream(plane, "router", held) as new:
            await new.send(router_hello("r", instance="i-2"))
            await new.expect("snapshot")
            code, told = await old.refusal()
            assert code is grpc.StatusCode.ABORTED
            assert "--name" in told
            seen = await status(api)
            assert (seen["instance"], seen["connected"]) == ("i-2", True)
            assert len(plane.hub) == 1


async def test_a_router_that_reconnects_before_its_old_stream_ended_stays_connected(
    api: Operator, plane: ControlPlane, held: Credentials
) -> None:
    async with stream(plane, "router", held) as old:
        await old.send(router_hello("r"))
        await old.expect("snapshot")
        async with stream(plane, "router", held) as new:
            await new.send(router_hello("r"))  # the same instance
            await new.expect("snapshot")
            await old.refusal()
            await new.send(pb.RouterMessage(status=pb.RouterStatus(requests_total=7)))
            await until(7, api, "requests_total")
            assert (await status(api))["connected"] is True


async def test_a_certificate_of_one_router_does_not_speak_for_another(
    plane: ControlPlane, held: Credentials
) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("other"))
        code, told = await router.refusal()
    assert (code, "not to 'other'" in told) == (grpc.StatusCode.PERMISSION_DENIED, True)
    assert plane.loop.state.routers == {}


async def test_an_agent_is_no_router(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "router", await api.member("r")) as router:
        await router.send(router_hello("r"))
        assert (await router.refusal())[0] is grpc.StatusCode.PERMISSION_DENIED
    assert plane.loop.state.routers == {}


@pytest.mark.parametrize("verb", ["revoke", "remove"])
async def test_the_stream_of_a_router_that_is_no_member_any_more_ends_at_once(
    api: Operator, plane: ControlPlane, held: Credentials, verb: str
) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        if verb == "revoke":
            await api.call("POST", "/api/v1/routers/r/revoke")
        else:
            await api.call("DELETE", "/api/v1/routers/r")
        code, told = await router.refusal()
    assert (code, "revoked" in told) == (grpc.StatusCode.UNAUTHENTICATED, True)
    assert plane.loop.state.routers == {}
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        assert (await router.refusal())[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_ends_when_its_certificate_does(tmp_path: Path) -> None:
    async with (
        running(tmp_path, leaf_seconds=2) as plane,
        operator(plane) as api,
        stream(plane, "router", await api.member("r", PeerRole.ROUTER)) as router,
    ):
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        code, told = await router.refusal()
    assert (code, "expired" in told) == (grpc.StatusCode.UNAUTHENTICATED, True)


async def test_trust_comes_first(plane: ControlPlane, held: Credentials) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        told = codec_trust.trust_from_proto(await router.expect("trust"))
        assert told == plane.publisher.trust.newest


async def test_routers_know_each_other_while_they_are_connected(
    plane: ControlPlane, api: Operator, held: Credentials
) -> None:
    other = await api.member("other", PeerRole.ROUTER)
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))

        async def until(*names: str) -> None:
            while [r.name for r in (await router.expect("snapshot")).routers] != [*names]:
                pass

        await until("r")
        async with stream(plane, "router", other) as second:
            await second.send(router_hello("other"))
            told = await second.expect("snapshot")
            assert [(r.name, r.url) for r in told.routers] == [
                ("other", "http://127.0.0.1:7400"),
                ("r", "http://127.0.0.1:7400"),
            ]
            await until("other", "r")
        await until("r")


def hello(
    name: str = "r", url: str = "", latitude: float = 0.0, reverse: str = ""
) -> pb.RouterMessage:
    located = pb.Location(latitude=latitude, longitude=0.0)
    return pb.RouterMessage(
        hello=pb.RouterHello(name=name, url=url, location=located, reverse_address=reverse)
    )


@pytest.mark.parametrize(
    "message",
    [
        pb.RouterMessage(),
        pb.RouterMessage(ack=pb.SnapshotAck(version=1)),
        hello(name=""),
        hello(name="A b"),
        hello(latitude=91.0),
        hello(latitude=float("nan")),
        hello(url="ftp://host"),
        hello(reverse="host"),
        hello(reverse="host:1,host"),
        hello(reverse="host:0x1f"),
        hello(reverse="user@host:1"),
    ],
)
async def test_a_stream_without_a_sound_hello_is_refused(
    plane: ControlPlane, held: Credentials, message: pb.RouterMessage
) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(message)
        code, told = await router.refusal()
    assert (code, bool(told)) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert plane.loop.state.routers == {}


async def test_a_router_explains(plane: ControlPlane, held: Credentials) -> None:
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        asking = asyncio.create_task(plane.hub.explain("m", "192.0.2.1"))
        question = await router.expect("explain")
        assert (question.model, question.client_address) == ("m", "192.0.2.1")
        late = pb.Explanation(id="unknown", document_json="{}")
        await router.send(pb.RouterMessage(explanation=late))
        answer = pb.Explanation(id=question.id, document_json=json.dumps({"pick": "a"}))
        await router.send(pb.RouterMessage(explanation=answer))
        (told,) = await asking
    assert (told.router, told.explanation, told.error) == ("r", {"pick": "a"}, "")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pb.Explanation(error="model 'm' is unknown"), "model 'm' is unknown"),
        (pb.Explanation(document_json="{"), "no JSON object"),
        (pb.Explanation(document_json="[]"), "no JSON object"),
        (pb.Explanation(document_json="[" * 100_000), "no JSON object"),
    ],
)
async def test_what_a_router_cannot_say(answer: pb.Explanation, error: str) -> None:
    hub = RouterHub()
    with hub.connected("r", "") as connection:
        asking = asyncio.create_task(hub.explain("m", "192.0.2.1"))
        answer.id = (await connection.question()).id
        connection.answer(answer)
        (told,) = await asking
    assert told.explanation is None
    assert error in told.error


async def test_a_silent_router_does_not_hold_up_the_answer() -> None:
    hub = RouterHub()
    with hub.connected("a", ""), hub.connected("b", ""):
        told = await hub.explain("m", "192.0.2.1", timeout_s=0.01)
    assert [(t.router, "did not answer" in t.error) for t in told] == [("a", True), ("b", True)]
    assert await hub.explain("m", "192.0.2.1") == []


async def test_questions_to_a_router_that_does_not_read_are_bounded() -> None:
    connection = Connection("r", "")
    for _ in range(QUESTIONS):
        await connection.explain("m", "192.0.2.1", 0.0)
    told = await connection.explain("m", "192.0.2.1", 0.0)
    assert "too many" in told.error


async def test_counts_are_taken_in_and_nonsense_ends_the_stream(
    plane: ControlPlane, held: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[RouterCounted] = []
    submit = plane.loop.submit

    async def noting(event: Any, *args: Any, **named: Any) -> Any:
        if isinstance(event, RouterCounted):
            taken.append(event)
        return await submit(event, *args, **named)

    monkeypatch.setattr(plane.loop, "submit", noting)
    column = (1, *[0] * 31)
    counts = VersionCounts(model="m", version=2, region="eu", requests=column, latency={-3: 1})
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        for sequence in (1, 2):
            told = codec_rollout.counts_to_proto(sequence, [counts])
            await router.send(pb.RouterMessage(counts=told))
        async with asyncio.timeout(10):
            while len(taken) < 2:
                await asyncio.sleep(0.01)
        assert [(e.name, e.instance, e.sequence, e.counts) for e in taken] == [
            ("r", "i-1", 1, (counts,)),
            ("r", "i-1", 2, (counts,)),
        ]
        short = pb.VersionCounts(model="m", version=2, region="eu", requests=[1, 2])
        await router.send(pb.RouterMessage(counts=pb.Counts(sequence=3, versions=[short])))
        status, text = await router.refusal()
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert "32 user buckets" in text
