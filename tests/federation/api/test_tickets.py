"""Tokens of clusters and routers: how long, how often shown, how revoked."""

import pytest

from federation.app import ControlPlane
from federation.identity.tokens import TokenKind, parse
from tests.fakes.control_plane import Operator

PATHS = {"clusters": {"spec": {"region": "eu-west"}}, "routers": {}}


@pytest.fixture(autouse=True)
async def region(api: Operator) -> None:
    await api.register("other")


@pytest.mark.parametrize(("plural", "body"), PATHS.items())
async def test_a_token_lasts_an_hour_at_most(
    api: Operator, plural: str, body: dict[str, object]
) -> None:
    path = f"/api/v1/{plural}/a/register"
    for seconds, status in ((3601, 400), (0, 400), (3600, 201)):
        answer = await api.call("POST", path, body | {"tokenTtlSeconds": seconds})
        assert answer.status == status


@pytest.mark.parametrize(
    ("plural", "kind"), [("clusters", TokenKind.JOIN), ("routers", TokenKind.ROUTER_JOIN)]
)
async def test_a_repeated_registration_shows_the_same_token(
    api: Operator, plane: ControlPlane, plural: str, kind: TokenKind
) -> None:
    path, key = f"/api/v1/{plural}/a/register", {"Idempotency-Key": "k"}
    first = await api.call("POST", path, PATHS[plural], headers=key)
    again = await api.call("POST", path, PATHS[plural], headers=key)
    assert first.json["joinToken"] == again.json["joinToken"]
    assert parse(first.json["joinToken"]).kind is kind
    assert first.json["caPin"] == plane.keyring.rollover.active_pin


@pytest.mark.parametrize("plural", PATHS)
async def test_revoking_is_tried_dry_and_may_be_repeated(api: Operator, plural: str) -> None:
    await api.call("POST", f"/api/v1/{plural}/a/register", PATHS[plural])
    path = f"/api/v1/{plural}/a/revoke"
    dry = await api.call("POST", f"{path}?dryRun=true")
    assert dry.json["status"]["revoked"] is True
    shown = await api.call("GET", f"/api/v1/{plural}/a")
    assert shown.json["status"]["revoked"] is False
    for _ in range(2):
        done = await api.call("POST", path)
        assert (done.status, done.json["status"]["revoked"]) == (200, True)
    assert (await api.call("POST", f"/api/v1/{plural}/nobody/revoke")).status == 404
    assert (await api.call("POST", f"/api/v1/{plural}/a/accept")).status == 409
