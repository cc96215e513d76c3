import json

import pytest

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from federation.relay.errors import (
    BadUpstream,
    Moved,
    SlowClient,
    WrongMethod,
    error_response,
    render_error,
    sse_error,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("x"), 400),
        (Unauthenticated("x"), 401),
        (NotFound("x"), 404),
        (WrongMethod("x", allow="GET"), 405),
        (SlowClient("x"), 408),
        (TooLarge("x"), 413),
        (Exhausted("x"), 429),
        (FederationError("x"), 500),
        (BadUpstream("x"), 502),
        (Unavailable("x"), 503),
        (DeadlineExceeded("x"), 504),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v2/models/m/infer"])
def test_every_error_has_its_status(path: str, error: FederationError, status: int) -> None:
    assert render_error(path, error).status == status


def test_v2_errors_are_one_sentence_with_the_remedy() -> None:
    _, content_type, body = render_error("/v2/models/m", NotFound("No m.", hint="Try n."))
    assert content_type == "application/json"
    assert json.loads(body) == {"error": "No m. Try n."}


def test_v1_errors_are_openais_object() -> None:
    error = NotFound("No m.", hint="Try n.", reason="unknown-model")
    assert json.loads(render_error("/v1/completions", error).body) == {
        "error": {
            "message": "No m. Try n.",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }
    unavailable = json.loads(render_error("/v1/x", Unavailable("x")).body)["error"]
    assert (unavailable["type"], unavailable["code"]) == ("server_error", "unavailable")


def test_a_path_that_only_begins_like_openais_is_not() -> None:
    assert json.loads(render_error("/v1evil", Invalid("x")).body) == {"error": "x"}


def test_a_response_says_when_to_come_back_or_what_is_allowed() -> None:
    assert error_response("/v2", Unavailable("x")).headers["Retry-After"] == "1"
    assert error_response("/v2", WrongMethod("x", allow="POST")).headers["Allow"] == "POST"
    assert "Retry-After" not in error_response("/v2", Invalid("x")).headers
    moved = error_response("/v2", Moved("x", hint="y", location="https://r.example.net/v2"))
    assert (moved.status, moved.headers["Location"]) == (307, "https://r.example.net/v2")


def test_a_streams_last_event_is_one_data_line() -> None:
    event = sse_error("/v1/chat/completions", BadUpstream("The engine\nbroke off."))
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert json.loads(event[6:])["error"]["code"] == "bad_upstream"
    named, data = sse_error("/v1/responses", BadUpstream("It broke off.")).split(b"\n", 1)
    told = json.loads(data[6:])
    assert (named, told["type"], told["code"]) == (b"event: error", "error", "bad_upstream")
