"""Who may do what: every route, for every kind of caller, on its own objects and on others'.

The table is what we promise. A route without a row fails, and so does a row without a route.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from federation.app import ControlPlane
from federation.contract.resources import KINDS
from tests.fakes.control_plane import LOCATION, Operator, package
from tests.federation.api.access_rig import Rig, Target, model_of, rig

Callers = frozenset[str]
Body = Callable[[Target, str], Any]

ADMIN = frozenset({"admin"})
OPERATORS = ADMIN | {"operator"}
OUR_OPERATORS = OPERATORS | {"my-operator"}
OWNERS = ADMIN | {"owner"}
OUR_OWNERS = OWNERS | {"my-owner"}
READERS = OUR_OPERATORS | OUR_OWNERS | {"viewer"}
KNOWN = READERS | {"no-role", "agent", "router"}
ALL = KNOWN | {"nobody"}
NONE: Callers = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """Who may, where the object is theirs (`mine`) and where it is not; how an admitted call is
    answered. With `moves`, the body may name another owner than the object has now: who may not
    touch both must not move it."""

    kind: str
    mine: Callers
    theirs: Callers
    status: tuple[int, ...] = (200,)
    body: Body | None = None
    moves: bool = False


def same(kind: str, callers: Callers, *status: int, body: Body | None = None) -> Row:
    """A row of a route where it does not matter whose the object is."""
    return Row(kind, callers, callers, status or (200,), body)


def document(kind: str, spec: Callable[[Target, str], Any]) -> Body:
    def make(target: Target, becomes: str) -> Any:
        metadata = {"name": target.name}
        return {
            "apiVersion": "federation/v1",
            "kind": kind,
            "metadata": metadata,
            "spec": spec(target, becomes),
        }

    return make


def push(target: Target, _becomes: str) -> Any:
    _, manifest, text = package(target.name, target.name.encode())
    return {"package": text, "manifest": manifest, "source": "x"}


def nothing(_target: Target, _becomes: str) -> Any:
    return {}


CLUSTER = document("Cluster", lambda _target, becomes: {"region": becomes})
RUN = Row("Cluster", OUR_OPERATORS, OPERATORS)
# Nobody joined those clusters: that they cannot be accepted or revoked is told to who may ask.
RUN_MEMBER = Row("Cluster", OUR_OPERATORS, OPERATORS, (200, 409))
OWN = Row("Model", OUR_OWNERS, OWNERS)
READ_MINE = Row("Model", READERS | {"agent"}, READERS)


def start(target: Target, becomes: str) -> Any:
    return {"spec": {"model": model_of(target.name, becomes), "version": 2}}


STEER = Row("Rollout", OUR_OWNERS, OWNERS, (200, 409), nothing)
# Who runs clusters may stop what hurts them.
STOP = Row("Rollout", OUR_OWNERS | OUR_OPERATORS, OWNERS | OPERATORS, (200,), nothing)


def plural(kind: str) -> str:
    return next(each.plural for each in KINDS if each.name == kind)


MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "/healthz"): same("", ALL),
    ("GET", "/readyz"): same("", ALL),
    ("GET", "/metrics"): same("", ALL),
    ("GET", "/openapi.json"): same("", ALL),
    ("GET", "/api/v1/trust"): same("", ALL),
    ("POST", "/api/v1/join"): same("", ALL, 400, body=nothing),
    ("POST", "/api/v1/renew"): same("", ALL, 400, body=nothing),
    ("GET", "/api/v1/whoami"): same("", KNOWN),
    ("GET", "/api/v1/routes/explain"): same("", READERS),
    ("GET", "/api/v1/audit"): same("", ADMIN),
    ("GET", "/api/v1/audit/head"): same("", ADMIN),
    ("GET", "/api/v1/ca"): same("", READERS),
    ("POST", "/api/v1/ca/rotate"): same("", ADMIN, 200, 409),
    # ------------------------------------------------------------ packages
    ("POST", "/api/v1/chunks/missing"): same("", OUR_OWNERS),
    ("POST", "/api/v1/chunks"): same("", OUR_OWNERS),
    # A certificate alone opens no pack; agents are given links.
    ("GET", "/api/v1/packs/{id}"): same("Model", READERS),
    ("POST", "/api/v1/gc"): same("", ADMIN, body=nothing),
    ("GET", "/api/v1/models/{name}/versions/{version}"): READ_MINE,
    ("GET", "/api/v1/models/{name}/versions/{version}/manifest"): READ_MINE,
    ("GET", "/api/v1/models/{name}/versions/{version}/release"): READ_MINE,
    ("GET", "/api/v1/models/{name}/versions/{version}/locations"): READ_MINE,
    ("POST", "/api/v1/models/{name}/versions/{version}/verify"): OWN,
    ("POST", "/api/v1/models/{name}/versions"): Row("Model", OUR_OWNERS, OWNERS, (201,), push),
    ("PUT", "/api/v1/models/{name}/aliases/{alias}"): Row(
        "Model", OUR_OWNERS, OWNERS, body=lambda _target, _becomes: {"version": 1}
    ),
    ("DELETE", "/api/v1/models/{name}/aliases/{alias}"): OWN,
    # ------------------------------------------------------------ memberships
    ("POST", "/api/v1/clusters/{name}/register"): Row(
        "Cluster",
        OUR_OPERATORS,
        OPERATORS,
        (201,),
        lambda _target, becomes: {"spec": {"region": becomes}, "rejoin": True},
        moves=True,
    ),
    ("POST", "/api/v1/clusters/{name}/accept"): RUN_MEMBER,
    ("POST", "/api/v1/clusters/{name}/revoke"): RUN_MEMBER,
    ("POST", "/api/v1/clusters/{name}/cordon"): RUN,
    ("POST", "/api/v1/clusters/{name}/uncordon"): RUN,
    ("POST", "/api/v1/clusters/{name}/drain"): RUN,
    ("POST", "/api/v1/routers/{name}/register"): same(
        "Router", ADMIN, 201, body=lambda _target, _becomes: {"rejoin": True}
    ),
    ("POST", "/api/v1/routers/{name}/accept"): same("Router", ADMIN, 200, 409),
    ("POST", "/api/v1/routers/{name}/revoke"): same("Router", ADMIN, 200, 409),
    ("DELETE", "/api/v1/routers/{name}"): same("Router", ADMIN),
    # ------------------------------------------------------------ keys
    ("POST", "/api/v1/keys/{name}"): same(
        "Cluster", ADMIN, 201, body=lambda _target, _becomes: {"grants": [{"role": "viewer"}]}
    ),
    ("POST", "/api/v1/keys/{name}/rotate"): same("Key", ADMIN, body=nothing),
    ("DELETE", "/api/v1/keys/{name}"): same("Key", ADMIN),
    # ------------------------------------------------------------ documents
    ("PUT", "/api/v1/regions/{name}"): Row(
        "Region",
        OUR_OPERATORS,
        OPERATORS,
        body=document("Region", lambda *_: {"location": LOCATION}),
    ),
    ("DELETE", "/api/v1/regions/{name}"): Row("Region", OUR_OPERATORS, OPERATORS, (409,)),
    ("PUT", "/api/v1/clusters/{name}"): Row(
        "Cluster", OUR_OPERATORS, OPERATORS, body=CLUSTER, moves=True
    ),
    ("DELETE", "/api/v1/clusters/{name}"): RUN,
    ("PUT", "/api/v1/models/{name}"): Row(
        "Model", OUR_OWNERS, OWNERS, body=document("Model", lambda *_: {"description": "x"})
    ),
    ("DELETE", "/api/v1/models/{name}"): OWN,
    ("PUT", "/api/v1/deployments/{name}"): Row(
        "Deployment",
        OUR_OWNERS,
        OWNERS,
        body=document(
            "Deployment", lambda target, becomes: {"model": model_of(target.name, becomes)}
        ),
        moves=True,
    ),
    ("DELETE", "/api/v1/deployments/{name}"): Row("Deployment", OUR_OWNERS, OWNERS),
    # There is no version 2, and what is there already does not change: told to who may ask.
    ("POST", "/api/v1/rollouts"): Row("Deployment", OUR_OWNERS, OWNERS, (404,), body=start),
    ("PUT", "/api/v1/rollouts/{name}"): Row(
        "Rollout",
        OUR_OWNERS,
        OWNERS,
        (200, 409),
        body=document(
            "Rollout",
            lambda target, becomes: {"model": model_of(target.name, becomes), "version": 2},
        ),
        moves=True,
    ),
    ("DELETE", "/api/v1/rollouts/{name}"): Row("Rollout", OUR_OWNERS, OWNERS, (409,)),
    ("POST", "/api/v1/rollouts/{name}/pause"): STOP,
    ("POST", "/api/v1/rollouts/{name}/abort"): STOP,
    ("POST", "/api/v1/rollouts/{name}/resume"): STEER,
    ("POST", "/api/v1/rollouts/{name}/promote"): STEER,
    ("POST", "/api/v1/rollouts/{name}/approve"): STEER,
    ("POST", "/api/v1/models/{name}/undo"): Row("Model", OUR_OWNERS, OWNERS, (404,), nothing),
    ("POST", "/api/v1/plan/rollout"): same("Deployment", READERS, 404, body=start),
    ("PUT", "/api/v1/prefetches/{name}"): Row(
        "Prefetch",
        OUR_OWNERS,
        OWNERS,
        body=document(
            "Prefetch",
            lambda target, becomes: {"model": model_of(target.name, becomes), "version": 1},
        ),
        moves=True,
    ),
    ("DELETE", "/api/v1/prefetches/{name}"): Row("Prefetch", OUR_OWNERS, OWNERS),
    ("GET", "/api/v1/sync"): same("", READERS),
    ("POST", "/api/v1/plan"): same(
        "Deployment",
        READERS,
        body=document(
            "Deployment", lambda target, becomes: {"model": model_of(target.name, becomes)}
        ),
    ),
    ("GET", "/api/v1/devices"): same("", READERS),
    ("GET", "/api/v1/pools"): same("", READERS),
    ("PUT", "/api/v1/tenants/{name}"): same(
        "Tenant", ADMIN, body=document("Tenant", lambda *_: {"max_concurrent": 2})
    ),
    ("DELETE", "/api/v1/tenants/{name}"): same("Tenant", ADMIN),
    **{
        ("GET", f"/api/v1/{plural(kind)}{path}"): same(kind, READERS)
        for kind in (
            *("Region", "Cluster", "Model", "Deployment", "Rollout", "Prefetch"),
            *("Router", "Tenant", "Key", "Event"),
        )
        for path in ("", "/{name}")
    },
}


def test_every_route_has_a_row_and_every_row_a_route(plane: ControlPlane) -> None:
    assert set(MATRIX) == {(route.method, route.path) for route in plane.api.routes}


@pytest.mark.parametrize(("method", "path"), sorted(MATRIX))
async def test_only_those_may_who_shall(
    plane: ControlPlane, api: Operator, method: str, path: str
) -> None:
    row = MATRIX[method, path]
    async with rig(plane, api) as made:
        assert made.callers.keys() == ALL
        for whose, becomes in _cases(row):
            allowed = row.mine if whose == becomes == "mine" else row.theirs
            for caller in sorted(ALL, key=_shuffled(path)):
                told = f"{caller}: {method} {path} on {whose}, which becomes {becomes}"
                answer = await _call(made, caller, (method, path), (whose, becomes))
                if caller in allowed:
                    assert answer[0] in row.status, f"{told}: {answer}"
                else:
                    assert answer[0] == (401 if caller == "nobody" else 403), f"{told}: {answer}"


def _cases(row: Row) -> list[tuple[str, str]]:
    crossed = [("mine", "theirs"), ("theirs", "mine")] if row.moves else []
    return [("mine", "mine"), ("theirs", "theirs"), *crossed]


def _shuffled(path: str) -> Callable[[str], int]:
    """Another order of callers for each route: none relies on what the one before did."""
    return lambda caller: zlib.crc32(f"{path} {caller}".encode())


async def _call(
    made: Rig, caller: str, route: tuple[str, str], whose: tuple[str, str]
) -> tuple[int, bytes]:
    method, path = route
    row = MATRIX[route]
    find = made.target_to_read if method == "GET" else made.target
    target = await find(row.kind, whose[0])
    url = path.format(name=target.name, version="1", alias="champion", id=target.pack)
    if path == "/api/v1/routes/explain":
        url += "?model=m&from=192.0.2.1"
    body = row.body(target, whose[1]) if row.body else None
    client = made.callers[caller]
    headers = {"Authorization": f"Bearer {client.token}"} if client.token else None
    async with client.session.request(
        method, client.base + url, json=body, headers=headers
    ) as answer:
        return answer.status, await answer.read()
