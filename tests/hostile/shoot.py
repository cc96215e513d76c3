"""Sends the corpus at a door and says what came of it that must not.

Input: the corpus, the address of a door, and the origin behind it. Output: one sentence for each
violation. After each payload an honest client asks too, by a connection of its own: whatever a
payload left in a connection that a proxy shares would show in its answer.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable

from tests.hostile.corpus import Payload
from tests.hostile.corpus.payload import HIDDEN, Asked, hidden, request
from tests.hostile.origin import Origin

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_HIDDEN = Asked("infer", "m", hidden("").partition(b"\r\n\r\n")[2])
_ANSWER = re.compile(rb"HTTP/1\.1 [2345][0-9]{2} ")
_AT_ONCE = 12
_OWN_FAULT = re.compile(rb"HTTP/1\.[01] 5(?!01|05)")
_QUIET_S = 0.4  # a door that has said nothing for this long waits for more
_AFTER = "-honest"


def dialler(port: int, context: ssl.SSLContext | None = None) -> Dial:
    """Return what opens connections to a port of this machine, over TLS with a context."""
    return lambda: asyncio.open_connection("127.0.0.1", port, ssl=context)


async def volley(
    corpus: Iterable[Payload], dial: Dial, origin: Origin, *, direct: bool, key: str = ""
) -> list[str]:
    """Return what went wrong; `direct` = no proxy repairs a payload before the door.

    With a `key`, each first head that is one shows it; without one, the door must let everybody in.
    """
    payloads = list(corpus)
    gate = asyncio.Semaphore(_AT_ONCE)
    wrong: list[str] = []
    answers: dict[str, int] = {}

    async def one(payload: Payload) -> None:
        async with gate:
            answer = await exchange(dial, showing(payload.raw, key))
            after = await exchange(dial, showing(honest(payload.name), key), whole=True)
        answers[payload.name] = len(_ANSWER.findall(answer))
        if not after.startswith(b"HTTP/1.1 200"):
            wrong.append(f"{payload.name}: an honest client then got {after[:200]!r}")
        if _OWN_FAULT.match(answer):
            wrong.append(f"{payload.name}: blamed on us: {answer[:300]!r}")

    await asyncio.gather(*map(one, payloads))
    return wrong + judge(payloads, origin, {} if direct else answers)


def showing(raw: bytes, key: str) -> bytes:
    """Return the bytes with a key behind the first Host header, if there is one."""
    shown = f"Host: x\r\nX-Api-Key: {key}\r\n".encode()
    return raw.replace(b"Host: x\r\n", shown, 1) if key else raw


def honest(name: str) -> bytes:
    """Return the request of a client that means no harm."""
    body = b'{"inputs": ["%s"]}' % name.encode()
    return request(name + _AFTER, b"Connection: close", body=body, sized=True)


def judge(payloads: list[Payload], origin: Origin, answers: dict[str, int]) -> list[str]:
    """Return what arrived and must not have, and what must have and did not.

    `answers` holds how many a proxy gave to each payload: if two, then it saw two requests too, one
    after the other, and nothing was smuggled past it. Without a proxy it is empty.
    """
    wrong = list(origin.unusual)
    known = {payload.name: payload for payload in payloads}
    arrived: dict[str, list[Asked]] = {}
    for tag, asked in origin.asked:
        arrived.setdefault(tag, []).append(asked)
    for tag, requests in arrived.items():
        if payload := known.get(tag):
            if len(requests) > 1 or requests[0] not in payload.may + payload.gateway_may:
                wrong.append(f"{tag}: {payload.why}; the engine was asked {requests}")
        elif answers.get(tag.removesuffix(HIDDEN), 0) > 1 and requests == [_HIDDEN]:
            continue
        elif known.get(tag.removesuffix(_AFTER)) is None or len(requests) > 1:
            wrong.append(f"{tag}: never meant; the engine was asked {requests}")
    for name, payload in known.items():
        if not answers and payload.must and arrived.get(name) != [payload.may[0]]:
            wrong.append(f"{name}: {payload.why}; it must arrive, but {arrived.get(name)} did")
        if arrived.get(name + _AFTER, []) != [Asked("infer", "m", _after_body(name))]:
            wrong.append(f"{name}: of the honest client {arrived.get(name + _AFTER)} arrived")
    return wrong


def _after_body(name: str) -> bytes:
    return honest(name).partition(b"\r\n\r\n")[2]


async def exchange(dial: Dial, raw: bytes, *, whole: bool = False) -> bytes:
    """Send bytes; return what comes back until the door closes, or is quiet (not if `whole`)."""
    answer = b""
    reader, writer = await dial()
    with contextlib.suppress(OSError):  # reset, in the words of TCP or TLS, or quiet for long
        writer.write(raw)
        while True:
            async with asyncio.timeout(10 if whole else _QUIET_S):
                piece = await reader.read(65536)
            if not piece:
                break
            answer += piece
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer
