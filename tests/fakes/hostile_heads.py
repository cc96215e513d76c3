"""Request heads that a proxy must refuse, or that must do no harm; `%s` stands for the path.

From the literature on request smuggling and path confusion; each is a regression test of router and
gateway alike.
"""

_CHUNKED = b"\r\n2\r\n{}\r\n0\r\n\r\n"
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

HOSTILE_HEADS = [
    b"POST %s HTTP/0.9\r\nHost: x\r\n\r\n",
    b"POST %s HTTP/2.0\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST http://evil%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST //evil%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST user:pw@evil%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v2/../%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /%%2e%%2e%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST \\%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s\x00 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s%%00 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s\xe9 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + _CHUNKED,
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"
    + _CHUNKED,
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 12\r\n"
    + _CHUNKED,
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n" + _CHUNKED,
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n" + _CHUNKED,
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n" + _CHUNKED,
    b"POST %s HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0_2\r\n{}\r\n0\r\n\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST %s HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"POST %s?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"P\x7fST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"CONNECT evil:443 HTTP/1.1\r\nHost: x%s\r\n\r\n",
    b"POST %s HTTP/1.1\r\nHost: x\r\n" + _UPGRADE + b"Content-Length: 2\r\n\r\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM%s\r\n\r\n",
]


def hostile_request(number: int, path: str) -> bytes:
    """Return one of the heads, aimed at `path`."""
    return HOSTILE_HEADS[number].replace(b"%s", path.encode()).replace(b"%%", b"%")
