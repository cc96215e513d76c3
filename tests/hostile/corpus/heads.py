"""Heads: versions, methods, upgrades, and headers that mean something to somebody behind us."""

import re

from tests.hostile.corpus.payload import BODY, MEANT, Asked, Payload, hidden, request

_POST = b"POST /v2/models/m/versions/1/infer "


def _refused(name: str, why: str, raw: bytes, *may: Asked) -> Payload:
    return Payload(name=name, why=why, raw=raw, may=may)


def _harmless(name: str, why: str, *headers: bytes) -> Payload:
    raw = request(name, *headers, body=BODY, sized=True)
    return Payload(name=name, why=why, raw=raw, may=(MEANT,), must=True)


def _headers(name: str, why: str, *headers: bytes, repaired: bool = False) -> Payload:
    raw = request(name, *headers, body=BODY, sized=True)
    return _refused(name, why, raw, *((MEANT,) if repaired else ()))


def _version(name: str, version: bytes, *may: Asked) -> Payload:
    why = "a version that is not HTTP/1.1 or 1.0"
    return _refused(name, why, request(name, version=version, body=BODY, sized=True), *may)


def _method(method: bytes, target: bytes = b"/v2/models/m/versions/1/infer") -> Payload:
    plain = re.sub(rb"[^A-Za-z]", b".", method[:20]).decode()
    name = f"method-{plain}-{len(target)}"
    why = "a method that no verb takes"
    return _refused(name, why, request(name, method=method, target=target))


_VERSIONS = (
    _refused("version-none", "HTTP/0.9", b"GET /v2/models/m/config\r\n\r\n"),
    _version("version-0.9", b"HTTP/0.9"),
    _version("version-2.0", b"HTTP/2.0", MEANT),
    _version("version-1.2", b"HTTP/1.2", MEANT),
    _version("version-1.10", b"HTTP/1.10", MEANT),
    _version("version-short", b"HTTP/1"),
    _version("version-lower", b"http/1.1"),
    _version("version-other", b"ICY/1.1"),
    _version("version-twice", b"HTTP/1.1 HTTP/1.1"),
    _refused(
        "preface-h2",
        "HTTP/2 with prior knowledge",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    ),
    _refused(
        "tls", "a TLS hello on the plain port", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"
    ),
    _refused("nothing", "only line ends", b"\r\n\r\n\r\n\r\n"),
    _refused("noise", "no HTTP at all", bytes(range(256)) * 4),
    _refused(
        "proxy-protocol",
        "an address that the client invents",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request("proxy-protocol", body=BODY, sized=True),
    ),
    Payload(
        name="version-1.0",
        why="HTTP/1.0 with a length is sound",
        raw=request("version-1.0", version=b"HTTP/1.0", body=BODY, sized=True),
        may=(MEANT,),
        must=True,
    ),
)
_METHODS = (
    _method(b"CONNECT", b"169.254.169.254:80"),
    _method(b"CONNECT"),
    _method(b"TRACE"),
    _method(b"TRACK"),
    _method(b"OPTIONS"),
    _method(b"OPTIONS", b"*"),
    _method(b"DELETE"),
    _method(b"PUT"),
    _method(b"PATCH"),
    _method(b"GET"),
    _method(b"HEAD"),
    _method(b"PROPFIND"),
    _method(b"post"),
    _method(b"P\x7fST"),
    _method(b"POST\0"),
    _method(b"A" * 5000),
)
_UPGRADES = (
    # An upgrade may be declined silently (RFC 9110, sec. 7.8): then one request arrives.
    _headers(
        "upgrade-h2c",
        "a tunnel past every rule",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        repaired=True,
    ),
    _headers(
        "upgrade-websocket",
        "a tunnel past every rule",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        repaired=True,
    ),
    _refused(
        "upgrade-with-hidden",
        "bytes after a declined upgrade must not become a request",
        request(
            "upgrade-with-hidden",
            b"Connection: Upgrade",
            b"Upgrade: h2c",
            body=BODY + hidden("upgrade-with-hidden"),
        ).replace(b"Upgrade: h2c", b"Upgrade: h2c\r\nContent-Length: %d" % len(BODY)),
        MEANT,
    ),
)
_HEADERS = (
    _headers("host-twice", "two names", b"Host: y", repaired=True),
    _refused(
        "host-none",
        "no name",
        _POST + b"HTTP/1.1\r\nx-session-id: host-none\r\nContent-Length: 14\r\n\r\n" + BODY,
        MEANT,
    ),
    _headers("nul-in-value", "a C string ends here", b"X: a\0b"),
    _headers("cr-in-value", "a line ends here for some", b"X: a\rY: b"),
    _headers("lf-in-value", "a line ends here for some", b"X: a\nContent-Length: 0", repaired=True),
    _headers("folded", "obsolete line folding", b"X: a", b" Content-Length: 0", repaired=True),
    _headers("folded-with-tab", "obsolete line folding", b"X: a", b"\tb", repaired=True),
    _headers("space-before-colon", "a name for some", b"X : a", repaired=True),
    _headers("no-colon", "no header", b"nonsense", repaired=True),
    _headers("no-name", "no header", b": a", repaired=True),
    _headers("name-with-space", "no token", b"A B: c", repaired=True),
    _headers("name-with-unicode", "no token", "Ü: a".encode(), repaired=True),
    _headers("name-with-nul", "no token", b"X\0Y: a"),
    _headers("many-headers", "10 000 headers", *[b"X: a"] * 10_000),
    _headers("many-names", "10 000 names", *[b"X%d: a" % i for i in range(10_000)]),
    _headers("one-huge-header", "a header of 20 000 bytes", b"X: " + b"a" * 20_000),
    _headers("one-huge-name", "a name of 20 000 bytes", b"X" * 20_000 + b": a"),
    _refused(
        "endless-line",
        "a request line without end",
        b"POST /" + b"a" * 300_000,
    ),
    _harmless("connection-names-headers", "a hop may not strip ours", b"Connection: x-fed-version"),
    _harmless("spoofed", "ours alone to set", b"x-fed-load: 9", b"X-Forwarded-For: ::1, 10.0.0.1"),
    _harmless("cookies", "none of an engine's business", b"Cookie: a=b", b"Cookie: c=d"),
    _harmless("latin-value", "not passed on", b"X-Note: caf\xe9"),
    _harmless("range", "answers are whole", b"Range: bytes=0-1"),
    _harmless("compressed-answer", "the client's own wish", b"Accept-Encoding: br;q=1, *;q=0"),
    _headers("expect-nonsense", "417 or ignored", b"Expect: 200-ok", repaired=True),
    _headers(
        "expect-continue", "the body is there already", b"Expect: 100-continue", repaired=True
    ),
    _headers(
        "expect-twice",
        "two wishes",
        b"Expect: 100-continue",
        b"Expect: 100-continue",
        repaired=True,
    ),
)

HEADS = (*_VERSIONS, *_METHODS, *_UPGRADES, *_HEADERS)
