from federation.relay.http1.heads import parse_request
from router.request.outgoing import own_fields, passed_fields, plain_fields, resolved_fields


def head_with(lines: bytes) -> tuple[bytes, str]:
    return passed_fields(parse_request(b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n"))


def test_what_is_allowed_goes_on_without_the_id_and_the_trace() -> None:
    lines = (
        b"Accept: */*\r\nAuthorization: Bearer k\r\nX-Request-Id: r\r\nx-fed-model: m\r\n"
        b"traceparent: 00-a\r\nContent-Type: application/json\r\nCookie: c\r\n"
    )
    assert head_with(lines) == (b"Accept: */*\r\nContent-Type: application/json\r\n", "00-a")


def test_two_traces_go_on_as_they_are_and_one_for_this_hop_does_not() -> None:
    two = b"traceparent: 1\r\ntraceparent: 2\r\n"
    assert head_with(two) == (two, "")
    assert head_with(b"Connection: traceparent\r\ntraceparent: 1\r\n") == (b"", "")


def test_own_lines() -> None:
    assert own_fields("r", "") == b"x-request-id: r\r\n"
    assert own_fields("r", "00-a") == b"traceparent: 00-a\r\nx-request-id: r\r\n"
    assert own_fields("r", "\udc80") == b"x-request-id: r\r\n"
    assert resolved_fields("m", 2) == b"x-fed-model: m\r\nx-fed-version: 2\r\n"


def test_an_answer_that_has_to_be_read_is_asked_for_plain() -> None:
    raw = b"POST / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nAccept: */*\r\n\r\n"
    fields, _ = plain_fields(parse_request(raw))
    assert fields == b"Accept-Encoding: identity\r\nAccept: */*\r\n"
