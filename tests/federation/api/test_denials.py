"""Everybody who is turned away at a door stands in the log, however many they are."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.api.denials import Denials, _denied
from federation.app import ControlPlane
from federation.contract.errors import PermissionDenied, Unauthenticated, Unavailable
from federation.contract.spiffe import PeerRole
from federation.identity.links import LINK_ENDED
from federation.identity.tokens import TokenKind, mint
from federation.policy.audit.events import AccessDenied, Origin
from federation.policy.audit.flood import Flood
from federation.policy.events import Event
from federation.runtime.clock import ManualClock, SystemClock
from federation.runtime.supervise import Supervisor
from federation.trust.keys import new_key, signing_request
from tests.fakes.control_plane import Operator, agent_hello, operator, running, stream

NO_TOKEN = {"Authorization": ""}


async def denials(api: Operator, count: int) -> list[Any]:
    """Wait until so many denials are in the log; returns what it tells of them."""
    async with asyncio.timeout(10):
        while True:
            page = await api.call("GET", "/api/v1/audit?kind=Call")
            if len(page.json["entries"]) >= count:
                return list(page.json["entries"])
            await asyncio.sleep(0.02)


async def test_a_call_without_a_token_is_told(api: Operator) -> None:
    headers = NO_TOKEN | {"X-Request-Id": "mine"}
    assert (
        await api.call("GET", "/api/v1/clusters/c?x=fed_user_x_1234567890", headers=headers)
    ).status == 401
    [entry] = await denials(api, 1)
    assert entry["actor"] == "anonymous"
    assert entry["source"] == "127.0.0.1"
    assert entry["request_id"] == "mine"
    assert (entry["action"], entry["outcome"]) == ("AccessDenied", "denied")
    assert (entry["kind"], entry["name"]) == ("Call", "GET /api/v1/clusters/{name}")
    assert entry["reason"] == "unauthenticated"
    assert "fed_user" not in str(entry)


async def test_a_wrong_token_is_told_without_it(api: Operator) -> None:
    token = mint(TokenKind.ADMIN, "local")
    wrong = {"Authorization": f"Bearer {token}"}
    assert (await api.call("PUT", "/api/v1/regions/r", {}, headers=wrong)).status == 401
    [entry] = await denials(api, 1)
    assert entry["name"] == "PUT /api/v1/regions/{name}"
    assert token not in str(entry)


async def test_an_unwelcome_upload_is_told_before_its_body(api: Operator) -> None:
    headers = NO_TOKEN | {"Expect": "100-continue"}
    answer = await api.call("POST", "/api/v1/chunks", data=b"x", headers=headers)
    assert answer.status == 401
    [entry] = await denials(api, 1)
    assert entry["name"] == "POST /api/v1/chunks"


def test_a_link_that_ended_is_no_denial() -> None:
    assert not _denied(PermissionDenied("it ended.", reason=LINK_ENDED))
    assert _denied(PermissionDenied("it was never good.", reason="bad-link"))


async def test_who_is_known_but_may_not_is_told_by_name(api: Operator) -> None:
    made = await api.call("POST", "/api/v1/keys/ada", {"grants": [{"role": "viewer"}]})
    assert made.status in (200, 201), made.body
    key = {"Authorization": f"Bearer {made.json['text']}"}
    assert (await api.call("DELETE", "/api/v1/clusters/c", headers=key)).status == 403
    [entry] = await denials(api, 1)
    assert entry["actor"] == "user/ada"
    assert entry["reason"] == "permission-denied"
    assert made.json["text"] not in str(entry)


async def test_a_strange_host_name_is_told_printable(api: Operator) -> None:
    assert (await api.call("GET", "/healthz", headers={"Host": "evil.example"})).status == 403
    [entry] = await denials(api, 1)
    assert entry["reason"] == "unknown-host"


async def test_refused_joins_are_told_whatever_the_reason(api: Operator) -> None:
    token = await api.register("c")
    await api.join(token)
    request = {"token": token, "csr": signing_request(new_key())}
    assert (await api.call("POST", "/api/v1/join", request, headers=NO_TOKEN)).status == 409
    assert (await api.call("POST", "/api/v1/join", {"no": "sense"}, headers=NO_TOKEN)).status == 400
    first, second = await denials(api, 2)
    assert first["name"] == second["name"] == "POST /api/v1/join"
    assert (first["reason"], second["reason"]) == ("join-token-used", "invalid")
    assert token not in str(first)


async def test_a_refused_stream_is_told_by_its_certificate(
    api: Operator, plane: ControlPlane
) -> None:
    member = await api.member("c")
    async with stream(plane, "agent", member) as agent:
        await agent.send(agent_hello("another"))
        await agent.refusal()
    [entry] = await denials(api, 1)
    assert entry["actor"] == "cluster/c"
    assert entry["source"] == "127.0.0.1"
    assert entry["outcome"] == "denied"


async def test_a_router_at_the_agents_door_is_told(api: Operator, plane: ControlPlane) -> None:
    router = await api.member("r", PeerRole.ROUTER)
    async with stream(plane, "agent", router) as agent:
        await agent.send(agent_hello("c"))
        await agent.refusal()
    [entry] = await denials(api, 1)
    assert entry["actor"] == "router/r"


async def test_other_mistakes_are_no_denials(api: Operator) -> None:
    assert (await api.call("GET", "/api/v1/nothing")).status == 404
    assert (await api.call("PUT", "/api/v1/regions/r", {"bad": 1})).status == 400
    assert (await api.call("POST", "/healthz")).status == 405
    assert (await api.call("GET", "/api/v1/regions", headers=NO_TOKEN)).status == 401
    [entry] = await denials(api, 1)
    assert entry["name"] == "GET /api/v1/regions"


async def test_a_flood_fills_no_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, operator(plane) as api:
        for _ in range(300):
            await api.call("GET", "/api/v1/regions", headers=NO_TOKEN)
        await denials(api, 1)
        head = await api.call("GET", "/api/v1/audit/head")
        assert head.json["id"] == 1


# ------------------------------------------------------------ the task that submits


class Loop:
    """Takes what is submitted; out of order for `failures` tries."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: asyncio.Queue[tuple[AccessDenied, Origin]] = asyncio.Queue()

    async def submit(self, event: Event, *, origin: Origin) -> bool:
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now.")
        assert isinstance(event, AccessDenied)
        self.taken.put_nowait((event, origin))
        return True


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


def note(denials: Denials, message: str = "no.", source: str = "192.0.2.1") -> None:
    error = Unauthenticated(message)
    denials.note(error, actor="anonymous", target="GET /", origin=Origin(source=source))


async def test_repetitions_come_as_a_number_when_their_window_ends(supervisor: Supervisor) -> None:
    loop = Loop()
    flood = Flood(window=timedelta(milliseconds=300))
    denials = Denials(submit=loop.submit, clock=SystemClock(), flood=flood)
    supervisor.start("denials", denials.run)
    for _ in range(5):
        note(denials)
    async with asyncio.timeout(10):
        counts = [(await loop.taken.get())[0].count for _ in range(2)]
    assert counts == [1, 4]
    assert denials.total == {"unauthenticated": 5}


async def test_what_could_not_be_submitted_is_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.api.denials.RETRY_S", 0.01)
    loop = Loop(failures=3)
    denials = Denials(submit=loop.submit, clock=ManualClock())
    supervisor.start("denials", denials.run)
    note(denials, "first.")
    note(denials, "second.", source="192.0.2.2")
    async with asyncio.timeout(10):
        told = [(await loop.taken.get())[0].message for _ in range(2)]
    assert told == ["first.", "second."]
    assert supervisor.restarts["denials"] == 0


async def test_secrets_in_an_error_are_cut_out(supervisor: Supervisor) -> None:
    loop = Loop()
    denials = Denials(submit=loop.submit, clock=ManualClock())
    supervisor.start("denials", denials.run)
    error = PermissionDenied("this is fed_user_ada_Zm9vYmFyYmF6.")
    denials.note(error, actor="user/ada", target="GET /", origin=Origin())
    async with asyncio.timeout(10):
        event, _ = await loop.taken.get()
    assert event.message == "this is fed_user_ada_***."
    assert repr(denials).startswith("Denials(total=1, due=0, Flood(")
