"""Answers of API servers become the errors that callers tell apart."""

from typing import Any

import pytest

from federation.kube.errors import (
    Conflict,
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    Refused,
    Throttled,
    Unauthorized,
    Unavailable,
    error_of,
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (302, Unavailable),
        (400, Refused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (415, Refused),
        (422, Refused),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_each_status_has_its_class(status: int, expected: type[KubeError]) -> None:
    error = error_of(status, {"message": "words of the server"})
    assert type(error) is expected
    assert (error.status, error.message) == (status, "words of the server")


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({}, {"Retry-After": "7"}, 7.0),
        ({"details": {"retryAfterSeconds": 3}}, {}, 3.0),
        ({}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({}, {"Retry-After": "99999999"}, 120.0),
        (None, {}, 0.0),
        ({"details": None}, {}, 0.0),
    ],
)
def test_the_wait_that_a_server_asks_for(
    body: Any, headers: dict[str, str], seconds: float
) -> None:
    error = error_of(429, body, headers)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == seconds


def test_a_server_that_is_starting_may_ask_for_a_wait_as_well() -> None:
    assert isinstance(error_of(503, {}, {"Retry-After": "1"}), Throttled)


def test_the_managers_of_a_conflict() -> None:
    causes: list[Any] = [
        {"message": 'conflict with "helm" using apps/v1', "field": ".spec.replicas"},
        {"message": 'conflict with "kubectl"', "field": ".spec.paused"},
        {"message": 'conflict with "helm"', "field": ".spec.template"},
        {"message": "something else"},
        "not even an object",
    ]
    error = error_of(409, {"message": "Apply failed", "details": {"causes": causes}})
    assert isinstance(error, Conflict)
    assert error.managers == ("helm", "kubectl")


@pytest.mark.parametrize("body", [None, [], "text", {}, {"message": 5}, {"message": ""}])
def test_an_answer_without_words(body: Any) -> None:
    assert error_of(500, body).message == "the API server answered with the status 500."


def test_long_words_are_cut_and_stay_on_one_line() -> None:
    error = error_of(500, {"message": "a\nb " + "x" * 1000})
    assert error.message.startswith("a b xxx")
    assert len(error.message) == 500
