"""What the router says itself, and what it adds to the answers of others.

Input: the routing table and the story of a request. Output: whole responses and headers.
"""

import itertools
import os
import re
import secrets
from collections.abc import Callable, Mapping

import msgspec
from multidict import CIMultiDict

from federation.contract.types import ModelRoute
from federation.relay.headers import REQUEST_ID_HEADER
from federation.relay.http1.heads import write_head
from federation.relay.http1.messages import Response
from federation.relay.paths import InferenceTarget, InferenceVerb
from federation.runtime.version import software_version
from router.policy import split
from router.policy.shortlist import Option
from router.policy.table import Resolved, RoutingTable

SERVER_NAME = "inference-federation"
OWN_HEADERS = ("server-timing",)  # of ours, that engines may have too
_EXTENSIONS = ("binary_tensor_data", "generate")
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch


class _Ids:
    """Names for requests, 32 digits each: a random beginning, and a number that counts on from a
    random one. They guard nothing."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin anew, as a process that was forked has to."""
        self.prefix = secrets.token_hex(10)
        self.numbers = itertools.count((1 << 44) + secrets.randbits(44))


_ids = _Ids()
os.register_at_fork(after_in_child=_ids.begin)


def json_response(document: object, *, status: int = 200) -> Response:
    """Return a document as a response."""
    return Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json"
    )


def server_metadata() -> Response:
    """Answer GET /v2."""
    return json_response(
        {
            "name": SERVER_NAME,
            "version": software_version(),
            "extensions": _EXTENSIONS,
        }
    )


def from_table(
    target: InferenceTarget, table: RoutingTable, visible: Callable[[str], bool]
) -> Response:
    """Answer GET /v2/health/ready, /v1/models and /v1/models/{id}; raises NotFound.

    Models that are not `visible` to the caller are not listed.
    """
    if target.verb is InferenceVerb.MODELS:
        models = [_entry(table, route) for name, route in table.models.items() if visible(name)]
        return json_response({"object": "list", "data": models})
    if target.verb is InferenceVerb.MODEL:
        return json_response(_entry(table, table.resolve(target.model, None, visible).route))
    return json_response({"ready": True})


def _entry(table: RoutingTable, route: ModelRoute) -> dict[str, object]:
    """A model as OpenAI clients expect it, with our own facts under `fed`."""
    return {
        "id": route.name,
        "object": "model",
        "created": 0,
        "owned_by": SERVER_NAME,
        "fed": {
            "protocol": route.protocol,
            "versions": table.versions[route.name],
            "default_version": route.default_version,
            "aliases": dict(route.aliases),
        },
    }


def routable_metadata(body: bytes, table: RoutingTable, route: ModelRoute) -> bytes:
    """Return a replica's metadata with the versions of the whole federation in it."""
    try:
        document = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    document["name"] = route.name
    document["versions"] = [str(number) for number in table.versions[route.name]]
    return msgspec.json.encode(document)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the client's own request id if it is a sane one, otherwise a new one."""
    return sane_id(headers.get(REQUEST_ID_HEADER, ""))


def sane_id(given: str) -> str:
    """Return a request id if it is a sane one, otherwise a new one."""
    return given if given and _SANE_ID(given) else new_id()


def new_id() -> str:
    """Return a request id that nobody else has."""
    return _ids.prefix + hex(next(_ids.numbers))[2:]


def way_fields(chosen: Option, resolved: Resolved, attempts: int) -> bytes:
    """Return the header lines that say who answered."""
    rollout = split.marked(resolved.route, resolved.version)
    fields = (
        ("x-fed-region", chosen.region),
        ("x-fed-cluster", chosen.cluster),
        ("x-fed-model-version", str(resolved.version)),
        ("x-fed-attempts", str(attempts)),
        *(((split.HEADER, rollout),) if rollout else ()),
    )
    return write_head("", fields)[2:-2]


_ROUTE = tuple(b"Server-Timing: route;dur=%d.%d" % divmod(n, 10) for n in range(100))
_UPSTREAM = tuple(b", upstream;dur=%d.%d\r\nx-request-id: " % divmod(n, 10) for n in range(1000))
_TIMING = b"Server-Timing: route;dur=%.1f, upstream;dur=%.1f\r\nx-request-id: "


def own_fields(way: bytes, timing_ms: tuple[float, float], request_id: str, limits: bytes) -> bytes:
    """Return all that a router adds to an answer, as header lines: who answered (`way_fields`),
    where the time went, the request's id, what is left of its tenant's limits. Short times, which
    are the usual ones, are looked up: to write a float takes longer than all the rest."""
    route_ms, upstream_ms = timing_ms
    if 0.0 <= route_ms < 9.9 and 0.0 <= upstream_ms < 99.9:
        route, upstream = _ROUTE[int(route_ms * 10 + 0.5)], _UPSTREAM[int(upstream_ms * 10 + 0.5)]
        return b"".join((way, route, upstream, request_id.encode(), b"\r\n", limits))
    return b"".join((way, _TIMING % timing_ms, request_id.encode(), b"\r\n", limits))


def set_fields(headers: CIMultiDict[str], fields: bytes) -> None:
    """Set headers from header lines."""
    for line in fields.decode().splitlines():
        name, _, value = line.partition(": ")
        headers[name] = value
