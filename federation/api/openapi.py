"""The OpenAPI 3.1 document, made from the route table.

Input: the routes, whose types msgspec turns into JSON schemas. Output: the document served at
/openapi.json. Nothing in it is written by hand twice: what is not a route is not in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from federation.api.errors import PROBLEM_JSON
from federation.api.route import Route
from federation.contract.errors import (
    HTTP_STATUS,
    FederationError,
    PermissionDenied,
    Unauthenticated,
)

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal (RFC 9457). `reason` is for machines; `detail` and `hint` are sentences."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    hint: str
    missing: tuple[str, ...] = ()  # BLAKE3s, when the reason is "missing-chunks"


def openapi_document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """Return the document."""
    types = _types(routes)
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Inference federation: operator API",
            "version": version,
            "description": "Clusters, models and deployments of one inference federation.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "fed_<kind>_<id>_<secret>, or a JSON web token",
                },
                "mutualTls": {
                    "type": "mutualTLS",
                    "description": "The certificate of an agent, for the packages assigned to it",
                },
            },
        },
    }


def _types(routes: Sequence[Route]) -> list[type]:
    """Return all types that need a schema, each once."""
    used = [Problem, *(t for route in routes for t in (route.body, route.answer))]
    return list(dict.fromkeys(t for t in used if isinstance(t, type)))


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "security": [{"token": []}, {"mutualTls": []}] if route.needs else [],
        "responses": _responses(route),
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _operation_id(route: Route) -> str:
    words = [w for w in re.split(r"[^A-Za-z0-9]+", route.path) if w not in ("", "api", "v1")]
    return "_".join([route.method.lower(), *words])


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PARAMETER.findall(route.path)
    ]
    found += [
        {"name": name, "in": "query", "description": told, "schema": text}
        for name, told in route.queries.items()
    ]
    if route.idempotency_key:
        told = "The same key with the same request gets the first answer again; it acts once."
        found.append(
            {"name": "Idempotency-Key", "in": "header", "description": told, "schema": text}
        )
    return found


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.answer is not None:
        good["content"] = _content(route.answer)
    responses = {str(route.status): good}
    errors: list[type[FederationError]] = list(route.errors)
    if route.needs:
        errors += [Unauthenticated, PermissionDenied]
    for status in sorted({HTTP_STATUS[error] for error in errors}):
        responses[str(status)] = _problem_response(HTTPStatus(status).phrase)
    responses["default"] = _problem_response("Any other refusal")
    return responses


def _problem_response(description: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    return {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}


def _content(what: type | str) -> dict[str, Any]:
    if isinstance(what, str):
        return {what: {}}
    return {"application/json": {"schema": {"$ref": _REF.format(name=what.__name__)}}}
