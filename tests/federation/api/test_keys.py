import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.app import ControlPlane
from federation.identity.tokens import digest
from tests.fakes.control_plane import Answer, Operator, operator, running

VIEWER = {"grants": [{"role": "viewer"}]}


def told(answer: Answer, status: int = 201) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.json["text"])


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_a_key_opens_what_its_grants_say_until_it_is_revoked(
    api: Operator, plane: ControlPlane
) -> None:
    answer = await api.call("POST", "/api/v1/keys/alice", VIEWER)
    text = told(answer)
    assert text.startswith("fed_user_alice_")
    document = answer.json["key"]
    assert (document["kind"], document["metadata"]["name"]) == ("Key", "alice")
    assert document["status"]["created_by"] == "admin/local"
    who = await api.call("GET", "/api/v1/whoami", headers=bearer(text))
    assert who.json == {
        "name": "user/alice",
        "grants": [{"role": "viewer", "models": [], "regions": []}],
    }
    assert (await api.call("GET", "/api/v1/clusters", headers=bearer(text))).status == 200
    refused = await api.call("POST", "/api/v1/keys/eve", VIEWER, headers=bearer(text))
    assert (refused.status, refused.json["reason"]) == (403, "permission-denied")
    assert "user/alice may not write key 'eve'" in refused.json["detail"]
    assert (await api.call("DELETE", "/api/v1/keys/alice")).status == 200
    assert (await api.call("GET", "/api/v1/whoami", headers=bearer(text))).status == 401
    assert (await api.call("GET", "/api/v1/keys/alice")).status == 404
    assert plane.loop.state.keys == {}


async def test_a_rotated_key_has_one_text(api: Operator) -> None:
    old = told(await api.call("POST", "/api/v1/keys/alice", VIEWER))
    new = told(await api.call("POST", "/api/v1/keys/alice/rotate", {}), 200)
    assert old != new
    assert (await api.call("GET", "/api/v1/whoami", headers=bearer(old))).status == 401
    assert (await api.call("GET", "/api/v1/whoami", headers=bearer(new))).status == 200


async def test_a_tenants_key_is_none_here(api: Operator, plane: ControlPlane) -> None:
    await api.put("Tenant", "acme", {})
    text = told(await api.call("POST", "/api/v1/keys/prod", {"tenant": "acme"}))
    assert text.startswith("fed_key_prod_")
    assert (await api.call("GET", "/api/v1/whoami", headers=bearer(text))).status == 401
    (travelling,) = plane.publisher.snapshot.access.keys
    assert travelling.digest == digest(plane.loop.state.pepper, text)
    rotated = told(await api.call("POST", "/api/v1/keys/prod/rotate", {}), 200)
    (travelling,) = plane.publisher.snapshot.access.keys
    assert travelling.digest == digest(plane.loop.state.pepper, rotated)
    await api.call("DELETE", "/api/v1/keys/prod")
    assert plane.publisher.snapshot.access.keys == ()


async def test_a_repeated_call_shows_the_same_text_and_a_stranger_never(
    api: Operator,
) -> None:
    once = {"Idempotency-Key": "k-1"}
    path = "/api/v1/keys/alice"
    first = told(await api.call("POST", path, VIEWER, headers=once))
    assert told(await api.call("POST", path, VIEWER, headers=once)) == first
    assert (await api.call("POST", path, VIEWER)).status == 409
    other = await api.call("POST", "/api/v1/keys/bob", VIEWER, headers=once)
    assert other.json["reason"] == "idempotency-key-reused"
    again = {"Idempotency-Key": "k-2"}
    rotated = told(await api.call("POST", f"{path}/rotate", {}, headers=again), 200)
    assert rotated != first
    assert told(await api.call("POST", f"{path}/rotate", {}, headers=again), 200) == rotated
    late = await api.call("POST", path, VIEWER, headers=once)
    assert late.status == 409
    assert "rotated or revoked since" in late.json["detail"]


async def test_keys_expire(api: Operator) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    body = VIEWER | {"expiresAt": soon.isoformat()}
    text = told(await api.call("POST", "/api/v1/keys/alice", body))
    async with asyncio.timeout(10):
        while (await api.call("GET", "/api/v1/whoami", headers=bearer(text))).status == 200:
            await asyncio.sleep(0.05)
    refused = await api.call("GET", "/api/v1/whoami", headers=bearer(text))
    assert refused.json["reason"] == "key-expired"
    assert datetime.now(UTC) >= soon
    assert (await api.call("GET", "/api/v1/keys/alice")).json["status"]["expired"] is True


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"grants": []},
        {"grants": [{"role": "root"}]},
        {"grants": [{"role": "viewer", "models": ["x"]}]},
        {"grants": [{"role": "operator", "regions": ["mars"]}]},
        VIEWER | {"tenant": "acme"},
        VIEWER | {"expiresAt": "2000-01-01T00:00:00Z"},
        VIEWER | {"expiresAt": "2100-01-01T00:00:00"},
        VIEWER | {"expiresAt": "soon"},
        VIEWER | {"digest": "x"},
    ],
)
async def test_senseless_keys_are_refused(api: Operator, body: dict[str, Any]) -> None:
    answer = await api.call("POST", "/api/v1/keys/alice", body)
    assert answer.status == 400, answer.body
    assert (await api.call("GET", "/api/v1/keys")).json["items"] == []


async def test_the_text_is_kept_nowhere(tmp_path: Path) -> None:
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        text = told(await api.call("POST", "/api/v1/keys/alice", VIEWER))
        kept = digest(plane.loop.state.pepper, text)
        for path in ("keys", "keys/alice", "events", "audit"):
            answer = await api.call("GET", f"/api/v1/{path}")
            assert answer.status == 200
            assert text.encode() not in answer.body
            assert kept.encode() not in answer.body
    secret = text.split("_", 3)[3].encode()
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), file
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        assert (await api.call("GET", "/api/v1/whoami", headers=bearer(text))).status == 200
