from datetime import datetime

import pytest

from federation.app import ControlPlane
from federation.identity.tokens import TokenKind, parse
from tests.fakes.control_plane import Operator

REGISTER = "/api/v1/clusters/a/register"
SPEC = {"region": "eu-west"}


async def test_a_registration_shows_the_join_token_once(api: Operator, plane: ControlPlane) -> None:
    token = parse(await api.register("a"))
    assert (token.kind, token.id) == (TokenKind.JOIN, "a")
    ticket = plane.loop.state.clusters["a"].ticket
    assert ticket is not None
    assert ticket.token_sha256 == token.sha256
    read = await api.call("GET", "/api/v1/clusters/a")
    assert token.text.encode() not in read.body
    assert read.json["status"]["joined"] is False


async def test_a_repeated_registration_gets_the_same_token(api: Operator) -> None:
    await api.register("other")  # makes the region
    key = {"Idempotency-Key": "k"}
    first = await api.call("POST", REGISTER, {"spec": SPEC}, headers=key)
    again = await api.call("POST", REGISTER, {"spec": SPEC}, headers=key)
    assert first.status == again.status == 201
    assert first.json["joinToken"] == again.json["joinToken"]
    assert datetime.fromisoformat(first.json["expiresAt"]).utcoffset() is not None
    assert first.json["expiresAt"] == again.json["expiresAt"]


async def test_a_replaced_token_is_not_shown_again(api: Operator) -> None:
    await api.register("other")
    key = {"Idempotency-Key": "k"}
    first = await api.call("POST", REGISTER, {"spec": SPEC}, headers=key)
    rejoin = await api.call("POST", REGISTER, {"spec": SPEC, "rejoin": True})
    assert rejoin.json["joinToken"] != first.json["joinToken"]
    again = await api.call("POST", REGISTER, {"spec": SPEC}, headers=key)
    assert again.status == 409
    assert "--rejoin" in again.json["hint"]


async def test_a_taken_name_is_refused_with_the_remedy(api: Operator) -> None:
    await api.member("a")
    answer = await api.call("POST", REGISTER, {"spec": SPEC})
    assert answer.status == 409
    assert "--rejoin" in answer.json["detail"] + answer.json["hint"]


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("a", {"spec": {"region": "eu-wset"}}, 404),
        ("a", {"spec": SPEC, "tokenTtlSeconds": 0}, 400),
        ("a", {"spec": SPEC, "tokenTtlSeconds": 90_000}, 400),
        ("a", {"spec": SPEC, "tokenTtl": 5}, 400),
        ("a", {"spec": SPEC | {"connectivity": "unknown"}}, 400),
        ("a", {"spec": SPEC | {"connectivity": "by-pigeon"}}, 400),
        ("a", {"spec": {}}, 400),
        ("A_b", {"spec": SPEC}, 400),
        ("-a", {"spec": SPEC}, 400),
    ],
)
async def test_bad_registrations(api: Operator, name: str, body: object, status: int) -> None:
    await api.register("other")
    answer = await api.call("POST", f"/api/v1/clusters/{name}/register", body)
    assert answer.status == status
    names = [
        c["metadata"]["name"] for c in (await api.call("GET", "/api/v1/clusters")).json["items"]
    ]
    assert names == ["other"]


async def test_an_unknown_region_comes_with_near_misses(api: Operator) -> None:
    await api.register("other")
    answer = await api.call("POST", REGISTER, {"spec": {"region": "eu-wset"}})
    assert "'eu-west'" in answer.json["hint"]


@pytest.mark.parametrize(
    ("verb", "scheduling"), [("cordon", "cordoned"), ("drain", "draining"), ("uncordon", "active")]
)
async def test_verbs_set_the_scheduling(api: Operator, verb: str, scheduling: str) -> None:
    await api.register("a")
    await api.call("POST", f"/api/v1/clusters/a/{'drain' if verb == 'uncordon' else 'uncordon'}")
    dry = await api.call("POST", f"/api/v1/clusters/a/{verb}?dryRun=true")
    assert dry.json["status"]["scheduling"] == scheduling
    before = await api.call("GET", "/api/v1/clusters/a")
    assert before.json["status"]["scheduling"] != scheduling
    done = await api.call("POST", f"/api/v1/clusters/a/{verb}")
    assert (done.status, done.json["status"]["scheduling"]) == (200, scheduling)


async def test_verbs_on_an_unknown_cluster(api: Operator) -> None:
    await api.register("alpha")
    answer = await api.call("POST", "/api/v1/clusters/alpah/cordon")
    assert answer.status == 404
    assert "'alpha'" in answer.json["hint"]


async def test_a_cluster_behind_a_nat_says_so(api: Operator) -> None:
    await api.register("other")
    answer = await api.call("POST", REGISTER, {"spec": SPEC | {"connectivity": "reverse"}})
    assert answer.json["cluster"]["spec"]["connectivity"] == "reverse"
    assert answer.json["cluster"]["status"]["connectivity"] == "reverse"
