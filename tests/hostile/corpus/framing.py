"""Framing: where does a body end, and is what follows a request of its own?

The classes of the literature on request smuggling (CL.TE, TE.CL, TE.TE, CL.0, 0.CL), and what
parsers have disagreed on since: signs, lists, extensions, trailers, bare line ends.
"""

from tests.hostile.corpus.payload import (
    BODY,
    INFER,
    MEANT,
    Asked,
    Payload,
    chunked,
    hidden,
    request,
)

_EMPTY = Asked("infer", "m", b"")
_TE = b"Transfer-Encoding: chunked"
_CHUNKED = chunked(BODY)


def _cl(value: bytes | int) -> bytes:
    return b"Content-Length: %s" % (b"%d" % value if isinstance(value, int) else value)


def _conflict(name: str, *headers: bytes, body: bytes, why: str) -> Payload:
    """Two lengths: a proxy may settle it its way (RFC 9112, sec. 6.3), we refuse."""
    may = (MEANT, _EMPTY, Asked("infer", "m", hidden(name)))
    return Payload(name=name, why=why, raw=request(name, *headers, body=body), may=may)


def _length(name: str, value: bytes, *may: Asked) -> Payload:
    why = "a length that readers understand in different ways"
    raw = request(f"cl-{name}", _cl(value), body=BODY)
    return Payload(name=f"cl-{name}", why=why, raw=raw, may=may)


def _coding(name: str, *lines: bytes) -> Payload:
    """An obfuscated coding, and a request hidden behind what others take for the body."""
    full = f"te-{name}"
    raw = request(full, *lines, body=_CHUNKED + hidden(full))
    why = "a coding that only some recognise"
    return Payload(name=full, why=why, raw=raw, may=(MEANT, _EMPTY))


def _coding_or_length(payload: Payload) -> Payload:
    """The same with a length: a reader who does not know the coding takes all for one body."""
    full = f"{payload.name}-or-cl"
    raw = payload.raw.replace(payload.name.encode(), full.encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    raw = b"%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
    may = (MEANT, Asked("infer", "m", body))
    return Payload(name=full, why=payload.why, raw=raw, may=may)


def _chunk(name: str, body: bytes, *, may: tuple[Asked, ...] = (), must: bool = False) -> Payload:
    full = f"chunk-{name}"
    raw = request(full, _TE, body=body)
    return Payload(name=full, why="how chunks are written", raw=raw, may=may, must=must)


_SIX = b"e\r\n" + BODY + b"\r\n"

_LENGTHS = (
    _length("plus", b"+14"),
    _length("minus", b"-14"),
    _length("hex", b"0xe"),
    _length("octal", b"0o16"),
    _length("underscore", b"1_4"),
    _length("float", b"14.0"),
    _length("exponent", b"14e0"),
    _length("list", b"14, 14", MEANT),  # RFC 9110, sec. 8.6: may be repaired
    _length("list-different", b"14, 0"),
    _length("empty", b""),
    _length("word", b"fourteen"),
    _length("unicode", "１４".encode()),
    _length("space-inside", b"1 4"),
    _length("nul", b"14\0"),
    _length("quoted", b'"14"'),
    _length("huge", b"99999999999999999999"),
    _length("overflow", b"18446744073709551630"),
    _length("too-large", b"1000000000000"),
)
_CONFLICTS = (
    _conflict(
        "cl-te",
        _cl(len(_CHUNKED) + 10),
        _TE,
        body=_CHUNKED + hidden("cl-te"),
        why="front believes the length, back the chunks",
    ),
    _conflict("cl-te-same", _cl(len(_CHUNKED)), _TE, body=_CHUNKED, why="both, and they agree"),
    _conflict(
        "cl-te-zero", _cl(6), _TE, body=b"0\r\n\r\nG", why="the G begins the next client's request"
    ),
    _conflict(
        "te-cl",
        _TE,
        _cl(4),
        body=b"%x\r\n" % len(hidden("te-cl")) + hidden("te-cl") + b"\r\n0\r\n\r\n",
        why="front believes the chunks, back the length",
    ),
    _conflict("cl-twice-equal", _cl(14), _cl(14), body=BODY, why="twice the same length"),
    _conflict(
        "cl-twice",
        _cl(14),
        _cl(0),
        body=BODY + hidden("cl-twice"),
        why="front believes the first, back the last",
    ),
    _conflict("cl-space-colon", b"Content-Length : 14", body=BODY, why="a name for some"),
    _conflict("cl-tab-colon", b"Content-Length\t: 14", body=BODY, why="a name for some"),
    _conflict("cl-nul-name", b"Content-Length\0: 14", body=BODY, why="a name for some"),
    _conflict("cl-underscored-name", b"Content_Length: 14", body=BODY, why="the same in CGI"),
    _conflict(
        "cl-folded", b"Content-Length:", b" 14", body=BODY, why="obsolete folding in a length"
    ),
)
_CODINGS = (
    _coding("x", b"Transfer-Encoding: xchunked"),
    _coding("quoted", b'Transfer-Encoding: "chunked"'),
    _coding("parameter", b"Transfer-Encoding: chunked;q=1"),
    _coding("identity-after", b"Transfer-Encoding: chunked, identity"),
    _coding("identity-before", b"Transfer-Encoding: identity, chunked"),
    _coding("identity", b"Transfer-Encoding: identity"),
    _coding("gzip", b"Transfer-Encoding: gzip, chunked"),
    _coding("twice", _TE, _TE),
    _coding("twice-in-one", b"Transfer-Encoding: chunked, chunked"),
    _coding("twice-different", _TE, b"Transfer-Encoding: x"),
    _coding("twice-different-turned", b"Transfer-Encoding: x", _TE),
    _coding("vertical-tab", b"Transfer-Encoding:\x0bchunked"),
    _coding("vertical-tab-after", b"Transfer-Encoding: chunked\x0b"),
    _coding("nul", b"Transfer-Encoding: chunked\0"),
    _coding("comma", b"Transfer-Encoding: ,chunked"),
    _coding("empty", b"Transfer-Encoding:"),
    _coding("space-colon", b"Transfer-Encoding : chunked"),
    _coding("underscore", b"Transfer_Encoding: chunked"),
    _coding("folded", b"Transfer-Encoding:", b" chunked"),
    _coding("folded-name", b"X: a", b" Transfer-Encoding: chunked"),
    _coding("bare-lf", b"X: a\nTransfer-Encoding: chunked"),
    _coding("bare-cr", b"X: a\rTransfer-Encoding: chunked"),
    _coding("control", b"Transfer-Encoding: \x01chunked"),
)
_MORE_CODINGS = (
    *map(_coding_or_length, _CODINGS),
    Payload(
        name="te-case",
        why="the name of a coding has no case",
        raw=request("te-case", b"tRANSFER-eNCODING: Chunked", body=_CHUNKED),
        may=(MEANT,),
    ),
    Payload(
        name="te-http-1.0",
        why="HTTP/1.0 has no codings",
        raw=request("te-http-1.0", _TE, version=b"HTTP/1.0", body=_CHUNKED),
        may=(MEANT, _EMPTY),
    ),
)
_CHUNKS = (
    _chunk("sound", chunked(BODY[:5], BODY[5:]), may=(MEANT,), must=True),
    _chunk("zeros-before", b"00000e\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("plus", b"+e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("minus", b"-e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("0x", b"0xe\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("underscore", b"0_e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("space-before", b" e\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("space-after", b"e \r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("empty-size", b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("word", b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("overflow", b"1000000000000000e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk("far-too-long-size", b"0" * 5000 + b"e\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("bare-lf", b"e\n" + BODY + b"\n0\n\n", may=(MEANT,)),
    _chunk("bare-lf-size", b"e\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("bare-cr", b"e\r" + BODY + b"\r0\r\r"),
    _chunk("no-end", b"e\r\n" + BODY + b"0\r\n\r\n"),
    _chunk("wrong-end", b"e\r\n" + BODY + b"XX0\r\n\r\n"),
    _chunk("short", b"d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    _chunk(
        "long",  # its last byte is a CR, and a bare LF ends it for the lenient
        b"f\r\n" + BODY + b"\r\n0\r\n\r\n",
        may=(Asked("infer", "m", BODY + b"\r"),),
    ),
    _chunk("unfinished", _SIX),
    _chunk("extension", b"e;a=b\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("extension-quoted", b'e;a="\r\n"\r\n' + BODY + b"\r\n0\r\n\r\n"),
    _chunk("extension-lf", b"e;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk("extension-cr", b"e;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)),
    _chunk(
        "extension-huge", b"e;" + b"a" * 70_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", may=(MEANT,)
    ),
    _chunk("trailer", chunked(BODY, trailer=b"X: a\r\n"), may=(MEANT,)),
    _chunk("trailer-length", chunked(BODY, trailer=b"Content-Length: 0\r\n"), may=(MEANT,)),
    _chunk("trailer-ours", chunked(BODY, trailer=b"x-fed-model: other\r\n"), may=(MEANT,)),
    _chunk("trailer-no-colon", chunked(BODY, trailer=b"nonsense\r\n"), may=(MEANT,)),
    _chunk("trailers-10000", chunked(BODY, trailer=b"X: a\r\n" * 10_000), may=(MEANT,)),
    _chunk(
        "end-then-hidden",
        b"e\r\n" + BODY + b"\r\n0\r\n" + hidden("chunk-end-then-hidden"),
        may=(MEANT,),
    ),
    _chunk("ones", b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n", may=(MEANT,)),
)
_HIDING = (
    Payload(
        name="hidden-in-body",
        why="a request as the content of another stays content",
        raw=request("hidden-in-body", body=hidden("hidden-in-body"), sized=True),
        may=(Asked("infer", "m", hidden("hidden-in-body")),),
        must=True,
    ),
    Payload(
        name="get-with-body",
        why="a reader that knows no bodies of GET sees a second request",
        raw=request(
            "get-with-body",
            method=b"GET",
            target="/v2/models/m/versions/1",
            body=hidden("get-with-body"),
            sized=True,
        ),
        may=(Asked("metadata", "m"),),
    ),
    Payload(
        name="get-with-chunks",
        why="a reader that knows no bodies of GET sees a second request",
        raw=request(
            "get-with-chunks",
            _TE,
            method=b"GET",
            target="/v2/models/m/versions/1",
            body=chunked(hidden("get-with-chunks")),
        ),
        may=(Asked("metadata", "m"),),
    ),
    Payload(
        name="refused-with-body",
        why="the body of a refused request must not become a request",
        raw=request("refused-with-body", target="/v2/logging", body=hidden("x"), sized=True),
    ),
    Payload(
        name="not-found-with-body",
        why="the body of a request to nowhere must not become a request",
        raw=request(
            "not-found-with-body", target="/v2/models/n/infer", body=hidden("x"), sized=True
        ),
    ),
    Payload(
        name="expect-then-hidden",
        why="the body of a refused Expect must not become a request",
        raw=request(
            "expect-then-hidden",
            b"Expect: 100-continue",
            target="/v2/logging",
            body=hidden("expect-then-hidden"),
            sized=True,
        ),
    ),
    Payload(
        name="no-length",
        why="without a length there is no body: what follows is no part of it",
        raw=request("no-length") + b"\0\0\0\0" + hidden("no-length"),
        may=(_EMPTY,),
    ),
    Payload(
        name="body-then-noise",
        why="after a body comes a request or nothing",
        raw=request("body-then-noise", body=BODY, sized=True) + b"\r\n\r\nnoise\r\n\r\n",
        may=(MEANT,),
    ),
    Payload(
        name="body-missing",
        why="half a body is no body",
        raw=request("body-missing", _cl(100), body=BODY),
    ),
    Payload(
        name="all-lf",
        why="bare line ends everywhere",
        raw=request("all-lf", body=BODY, sized=True).replace(b"\r\n", b"\n"),
        may=(MEANT,),
    ),
    Payload(
        name="all-cr",
        why="bare line ends everywhere",
        raw=request("all-cr", body=BODY, sized=True).replace(b"\r\n", b"\r"),
    ),
    Payload(
        name="line-then-space",
        why="white space before the first header",
        raw=request("line-then-space", body=BODY, sized=True).replace(
            b"\r\nHost", b"\r\n X: y\r\nHost", 1
        ),
        may=(MEANT,),
    ),
    Payload(
        name="ends-before",
        why="empty lines before a request may be skipped (RFC 9112, sec. 2.2)",
        raw=b"\r\n\r\n" + request("ends-before", body=BODY, sized=True),
        may=(MEANT,),
    ),
    Payload(
        name="target-with-request",
        why="a request line inside a request line",
        raw=request(
            "target-with-request",
            target=f"{INFER} HTTP/1.1\r\nX: ".encode() + INFER.encode(),
            body=BODY,
            sized=True,
        ),
        may=(MEANT,),
    ),
)

FRAMING = (*_LENGTHS, *_CONFLICTS, *_CODINGS, *_MORE_CODINGS, *_CHUNKS, *_HIDING)
