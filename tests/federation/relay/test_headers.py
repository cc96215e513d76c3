import pytest
from multidict import CIMultiDict

from federation.contract.errors import Invalid
from federation.relay.headers import content_length, request_headers, response_headers


def test_only_allowed_request_headers_pass() -> None:
    passed = request_headers(
        CIMultiDict(
            {
                "Content-Type": "application/json",
                "Accept": "*/*",
                "traceparent": "00-1-2-01",
                "X-Request-Id": "r1",
                "Inference-Header-Content-Length": "12",
                "Host": "router",
                "Authorization": "Bearer secret",
                "Cookie": "a=b",
                "X-Forwarded-For": "1.2.3.4",
                "X-Fed-Load": "0",
                "X-Fed-Model": "other",
                "Content-Length": "5",
                "Transfer-Encoding": "chunked",
                "X-Anything": "1",
            }
        )
    )
    assert {name.lower() for name in passed} == {
        "content-type",
        "accept",
        "traceparent",
        "x-request-id",
        "inference-header-content-length",
    }


def test_what_connection_names_does_not_pass_although_it_is_allowed() -> None:
    headers = CIMultiDict([("Connection", "close, TraceParent"), ("Connection", "x-request-id")])
    headers.extend({"traceparent": "t", "x-request-id": "r", "accept": "*/*"})
    assert set(request_headers(headers)) == {"accept"}


def test_extra_headers_replace_and_are_ours_alone() -> None:
    passed = request_headers(
        CIMultiDict({"x-fed-model": "evil", "accept": "a"}), {"X-Fed-Model": "m", "Accept": "b"}
    )
    assert passed.getall("x-fed-model") == ["m"]
    assert passed.getall("accept") == ["b"]


def test_a_header_outside_ascii_is_not_passed_on() -> None:
    assert not request_headers(CIMultiDict({"x-request-id": "caf\xe9", "tracestate": "\udcff"}))


def test_response_headers_lose_framing_hop_and_our_own() -> None:
    passed = response_headers(
        CIMultiDict(
            {
                "Content-Type": "text/event-stream",
                "Content-Length": "3",
                "Transfer-Encoding": "chunked",
                "Connection": "keep-alive, X-Internal",
                "X-Internal": "1",
                "Keep-Alive": "timeout=5",
                "Set-Cookie": "a=b",
                "Server": "engine/1",
                "X-Fed-Refused": "draining",
                "Retry-After": "3",
                "Inference-Header-Content-Length": "40",
            }
        ),
        cut=["Inference-Header-Content-Length"],
    )
    assert set(passed) == {"Content-Type", "Retry-After"}


@pytest.mark.parametrize("value", ["+3", "-1", "0x3", "3, 3", "", " 3", "\u0663"])
def test_a_length_is_plain_digits(value: str) -> None:
    with pytest.raises(Invalid):
        content_length({"Content-Length": value})


def test_a_length_is_read_or_absent() -> None:
    assert content_length({"Content-Length": "17"}) == 17
    assert content_length({}) is None
