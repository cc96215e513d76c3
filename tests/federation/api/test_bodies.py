import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import make_mocked_request

from federation.api import bodies
from federation.api.bodies import idempotency
from federation.api.route import CALLER
from federation.app import ControlPlane
from federation.contract.errors import Invalid
from federation.contract.strict_yaml import Document
from federation.policy.access.roles import Caller
from federation.policy.events import Idempotency
from federation.relay.server import BodyLimits
from tests.fakes.control_plane import Operator, roots_of

PATH = "/api/v1/gc"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nonsense", b"[]", b"null", b"\xff", b'{"digests": [}', b"[" * 100_000, b"{}{}"],
)
async def test_what_is_no_json_object_is_refused(api: Operator, data: bytes) -> None:
    answer = await api.call("POST", PATH, data=data)
    assert (answer.status, answer.json["reason"]) == (400, "invalid")


async def test_a_body_over_the_limit_is_refused(api: Operator) -> None:
    async def blanks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (1 << 20)

    assert bodies.JSON_LIMITS.max_bytes < 5 << 20
    answer = await api.call("POST", PATH, data=blanks())
    assert (answer.status, answer.json["reason"]) == (413, "too-large")


async def test_a_body_that_dribbles_in_is_given_up(
    api: Operator, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = BodyLimits(max_bytes=100, grace_s=0.05)
    monkeypatch.setattr(bodies.read_body, "__defaults__", (quick,))
    host, _, port = plane.http_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=roots_of(plane))
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {api.token}\r\n"
    writer.write(head.encode() + b"Content-Length: 15\r\n\r\n{")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()


def fingerprint(
    method: str = "PUT", path: str = "/x", body: object = None, caller: str = "local"
) -> Idempotency | None:
    request = make_mocked_request(method, path, headers={"Idempotency-Key": "k"})
    request[CALLER] = Caller(name=f"user/{caller}")
    return idempotency(request, Document(body, {}, "the body"))


def test_the_fingerprint_covers_all_that_is_asked() -> None:
    assert fingerprint(body={"a": 1, "b": 2}) == fingerprint(body={"b": 2, "a": 1})
    asked = [
        fingerprint(),
        fingerprint(method="POST"),
        fingerprint(path="/y"),
        fingerprint(path="/x?dryRun=true"),
        fingerprint(body={"a": 1}),
        fingerprint(body={"a": 2}),
        fingerprint(caller="other"),
    ]
    assert len({a.fingerprint for a in asked if a}) == len(asked)


def test_no_key_no_fingerprint() -> None:
    assert idempotency(make_mocked_request("PUT", "/")) is None
    with pytest.raises(Invalid):
        idempotency(make_mocked_request("PUT", "/", headers={"Idempotency-Key": " "}))
