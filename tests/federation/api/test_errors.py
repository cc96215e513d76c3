import logging

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from federation.api.errors import (
    PROBLEM_JSON,
    MissingChunks,
    after_the_head,
    answer_errors,
    problem,
)
from federation.contract.errors import (
    HTTP_STATUS,
    FederationError,
    InvalidTransition,
    Unauthenticated,
)
from federation.relay.errors import SlowClient
from tests.fakes.control_plane import Answer, Operator

Client = TestClient[web.Request, web.Application]


def one_of(cls: type[FederationError]) -> FederationError:
    if cls is InvalidTransition:
        return InvalidTransition("it", "here", "that")
    return cls("A sentence.", hint="A remedy.")


@pytest.mark.parametrize("cls", list(HTTP_STATUS))
def test_every_error_of_ours_has_a_problem(cls: type[FederationError]) -> None:
    error = one_of(cls)
    response = problem(error)
    assert response.status == HTTP_STATUS[cls]
    assert response.content_type == PROBLEM_JSON
    assert isinstance(response.body, bytes)
    answer = Answer(response.status, response.body, response.headers)
    assert answer.json == {
        "type": "about:blank",
        "title": answer.json["title"],
        "status": HTTP_STATUS[cls],
        "detail": error.message,
        "reason": error.reason,
        "hint": error.hint,
    }
    assert ("WWW-Authenticate" in response.headers) is (cls is Unauthenticated)


def test_a_slow_client_is_told_so() -> None:
    assert problem(SlowClient("slow")).status == 408


def test_missing_chunks_are_counted_and_the_first_ones_listed() -> None:
    body = problem(MissingChunks([str(number) for number in range(1001)])).body
    assert isinstance(body, bytes)
    told = Answer(409, body, {}).json
    assert told["missing"] == [str(number) for number in range(1000)]
    assert told["detail"].startswith("1001 chunks")


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("secret detail")


async def fail_late(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 10
    await response.prepare(request)
    with after_the_head(request):
        await response.write(b"12345")
        raise RuntimeError("late")
    return response


def served(handler: object) -> Client:
    app = web.Application(middlewares=[answer_errors])
    app.router.add_get("/x", handler)  # type: ignore[arg-type]
    return TestClient(TestServer(app))


async def test_what_nobody_foresaw_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(fail) as client:
        response = await client.get("/x", headers={"x-request-id": "id-7"})
        assert (response.status, response.headers["x-request-id"]) == (500, "id-7")
        text = await response.text()
    assert "id-7" in text
    assert "secret" not in text
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info
    assert record.__dict__["request_id"] == "id-7"


async def test_a_failure_after_the_head_cuts_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(fail_late) as client:
        response = await client.get("/x")
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert "late" in caplog.text


@pytest.mark.parametrize("given", ["a b", "x" * 65, "<script>", f"fed_user_ada_{'x' * 43}"])
async def test_a_strange_request_id_is_replaced(api: Operator, given: str) -> None:
    answer = await api.call("GET", "/healthz", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] != given


async def test_an_unknown_path_points_to_the_description(api: Operator) -> None:
    for path in ("/", "/api", "/api/v2/regions", "/api/v1/regions/a/b/c/d"):
        answer = await api.call("GET", path)
        assert answer.status == 404
        assert answer.headers["Content-Type"] == PROBLEM_JSON
        assert "/openapi.json" in answer.json["hint"]


@pytest.mark.parametrize("path", ["/api/v1/cluster", "/api/v1/clustrs/a", "/api/v1/Clusters"])
async def test_an_unknown_kind_comes_with_near_misses(api: Operator, path: str) -> None:
    answer = await api.call("GET", path)
    assert answer.status == 404
    assert "'clusters'" in answer.json["hint"]


async def test_a_wrong_method_names_the_right_ones(api: Operator) -> None:
    answer = await api.call("PATCH", "/api/v1/regions/a")
    assert (answer.status, answer.json["reason"]) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "DELETE, GET, PUT"
