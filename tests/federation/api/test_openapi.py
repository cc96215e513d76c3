import json
from dataclasses import dataclass

from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from federation.api.errors import PROBLEM_JSON
from federation.api.openapi import openapi_document
from federation.api.route import OPEN, Route, needs
from federation.app import ControlPlane
from federation.contract.errors import Conflict, NotFound
from federation.policy.access.roles import Verb
from tests.fakes.control_plane import Operator


async def test_the_served_document_is_valid_and_covers_every_route(
    api: Operator, plane: ControlPlane
) -> None:
    answer = await api.call("GET", "/openapi.json", headers={"Authorization": ""})
    document = answer.json
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    told = {(m.upper(), p) for p, methods in document["paths"].items() for m in methods}
    served = {
        (route.method, route.resource.canonical)
        for route in plane.api.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert told == served == {(route.method, route.path) for route in plane.api.routes}


async def test_every_documented_route_exists(api: Operator, plane: ControlPlane) -> None:
    for path, methods in plane.api.document["paths"].items():
        for method, operation in methods.items():
            answer = await api.call(
                method.upper(), path.replace("{", "").replace("}", ""), headers={"x": "y"}
            )
            assert answer.status != 405, f"{method} {path}"
            if answer.status == 404:
                assert "/openapi.json" not in answer.json["hint"], f"{method} {path}"
            assert str(answer.status) in operation["responses"], f"{method} {path}: {answer.status}"


async def test_operation_ids_are_unique(plane: ControlPlane) -> None:
    ids = [
        operation["operationId"]
        for methods in plane.api.document["paths"].values()
        for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


@dataclass(frozen=True)
class Thing:
    """A thing."""

    size: int


async def handler(_: web.Request) -> web.Response:
    return web.Response()


def test_a_route_becomes_an_operation() -> None:
    routes = [
        Route(
            method="PUT",
            path="/things/{name}",
            summary="Put a thing",
            handler=handler,
            needs=needs(Verb.WRITE, "Thing"),
            body=Thing,
            answer=Thing,
            queries={"dryRun": "only check"},
            errors=(NotFound, Conflict),
        ),
        Route(
            method="GET", path="/x", summary="x", handler=handler, needs=OPEN, answer="text/plain"
        ),
    ]
    document = json.loads(json.dumps(openapi_document(routes, version="1")))
    put = document["paths"]["/things/{name}"]["put"]
    assert put["security"] == [{"token": []}, {"mutualTls": []}]
    assert {(p["name"], p["in"]) for p in put["parameters"]} == {
        ("name", "path"),
        ("dryRun", "query"),
        ("Idempotency-Key", "header"),
    }
    assert set(put["responses"]) == {"200", "401", "403", "404", "409", "default"}
    assert PROBLEM_JSON in put["responses"]["404"]["content"]
    assert document["components"]["schemas"]["Thing"]["required"] == ["size"]
    assert document["paths"]["/x"]["get"]["security"] == []
