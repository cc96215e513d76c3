"""An engine that writes down, byte for byte, what it is asked, and accepts nothing unusual.

Input: connections of a router or gateway. Output: what was asked, and every deviation from the
plain form in which ours writes a request: one line, plain headers from a list, one framing.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.hostile.corpus.payload import TAG, Asked

_LINE = re.compile(
    r"(?:GET|POST) /(?:v2/models/(?P<model>m|text)(?:--v1|/versions/1)(?:/(?P<verb>\w+))?"
    r"|v1/(?P<openai>chat/completions|completions)) HTTP/1\.1"
)
_HEADER = re.compile(r"([A-Za-z0-9-]+): ([\x20-\x7e]*)")
_KNOWN = {
    *("host", "content-length", "transfer-encoding", "content-type", "content-encoding", "accept"),
    *("accept-encoding", "traceparent", "tracestate", "inference-header-content-length"),
    *("x-fed-model", "x-fed-version", "x-request-id", TAG),
}


class Unusual(Exception):
    """A request in a form that ours never writes."""


@dataclass
class Origin:
    """What arrived: requests by tag, and what was unusual."""

    url: str = ""
    asked: list[tuple[str, Asked]] = field(default_factory=list)
    unusual: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests until the connection ends."""
        try:
            while head := await _head(reader):
                line, headers = _parse(head)
                body = await _body(reader, headers)
                self.asked.append((headers.get(TAG, "untagged"), _understand(line, headers, body)))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"x-fed-load: 1\r\nContent-Length: 2\r\n\r\n{}"
                )
        except Unusual as error:
            self.unusual.append(str(error))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a request that was given up midway
        finally:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Unusual(f"bytes between requests: {error.partial[:200]!r}") from None
        return b""
    except asyncio.LimitOverrunError:
        raise Unusual("a head without end") from None


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    try:
        line, *rest = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    except UnicodeDecodeError:
        raise Unusual(f"not plain ASCII: {head[:200]!r}") from None
    headers: dict[str, str] = {}
    for text in rest:
        match = _HEADER.fullmatch(text)
        if not match or match[1].lower() not in _KNOWN or match[1].lower() in headers:
            raise Unusual(f"header {text[:200]!r} in {line[:200]!r}")
        headers[match[1].lower()] = match[2]
    if "host" not in headers or ("content-length" in headers and "transfer-encoding" in headers):
        raise Unusual(f"framing or Host of {line[:200]!r}: {headers}")
    return line, headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"] != "chunked":
            raise Unusual(f"coding {headers['transfer-encoding']!r}")
        return await _chunks(reader)
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", length):
        raise Unusual(f"length {length!r}")
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        if not re.fullmatch(rb"[0-9a-f]{1,8}\r\n", line):
            raise Unusual(f"chunk size {line[:100]!r}")
        piece = await reader.readexactly(int(line, 16))
        if await reader.readexactly(2) != b"\r\n":
            raise Unusual("a chunk without its end")
        if not piece:
            return body
        body += piece


def _understand(line: str, headers: dict[str, str], body: bytes) -> Asked:
    match = _LINE.fullmatch(line)
    if not match:
        raise Unusual(f"request line {line[:300]!r}")
    if match["openai"]:
        verb = {"chat/completions": "chat", "completions": "completions"}[match["openai"]]
        return Asked(verb, headers.get("x-fed-model", ""), _without_model(body))
    verb = match["verb"] or "metadata"
    openai = verb in ("chat", "completions")
    return Asked(verb, match["model"], _without_model(body) if openai else body)


def _without_model(body: bytes) -> bytes:
    """Return an OpenAI body without the model: a gateway writes the engine's name there."""
    levels: list[list[str]] = []

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        levels.append([key for key, _ in pairs])
        return dict(pairs)

    try:
        document = json.loads(body, object_pairs_hook=note)  # the outermost comes last
    except ValueError:
        return body
    if not levels or levels[-1].count("model") != 1:
        raise Unusual(f"an OpenAI body that names not one model: {body[:200]!r}")
    del document["model"]
    return json.dumps(document, sort_keys=True).encode()


@asynccontextmanager
async def recording() -> AsyncIterator[Origin]:
    """Run an origin on a port of its own."""
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, limit=1 << 20)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
