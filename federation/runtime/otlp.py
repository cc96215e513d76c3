"""Spans, told to a collector of OpenTelemetry: OTLP over HTTP, as JSON.

Input: spans that have ended. Output: POSTs of them, a few at a time. A collector that is away costs
spans, never anything else: what waits is bounded, and the oldest goes first.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

log = logging.getLogger(__name__)

MAX_WAITING = 2_048
MAX_SENT = 256  # in one request
RETRY_S = 10.0
TIMEOUT_S = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTERNAL = 1  # a span's kind
_FAILED = 2  # a span's status


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that lasted from `start` to `end`. Ids are hex: a trace's of 16 bytes, a span's of
    8; `parent` is "" for the root of a trace, `error` says what failed."""

    trace: str
    id: str
    parent: str
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    error: str = ""


def trace_id(*parts: object) -> str:
    """Return the id of the trace about something: the same one whoever asks, also after a
    restart."""
    return _hash(16, *parts)


def span_id(*parts: object) -> str:
    """Return the id of the span about something."""
    return _hash(8, *parts)


def _hash(size: int, *parts: object) -> str:
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def encoded(spans: Iterable[Span], *, service: str, version: str) -> bytes:
    """Return the body of a request that tells of these spans."""
    resource = {"service.name": service, "service.version": version}
    told = {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [{"scope": {"name": "federation"}, "spans": [_span(each) for each in spans]}],
    }
    return json.dumps({"resourceSpans": [told]}).encode()


def _span(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(span.end),
        "attributes": _attributes(span.attributes),
    }
    if span.parent:
        told["parentSpanId"] = span.parent
    if span.error:
        told["status"] = {"code": _FAILED, "message": span.error}
    return told


def _nanoseconds(moment: datetime) -> str:
    """64-bit numbers are texts in OTLP's JSON."""
    return str((moment - _EPOCH) // timedelta(microseconds=1) * 1000)


def _attributes(values: Mapping[str, str | int | float]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | int | float) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


class Exporter:
    """Sends spans in the background; `total` counts those sent and dropped."""

    def __init__(self, endpoint: str, *, service: str, version: str) -> None:
        """`endpoint` is the collector's base URL, like http://127.0.0.1:4318."""
        self.endpoint = endpoint
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._names = {"service": service, "version": version}
        self._waiting: deque[Span] = deque()
        self._news = asyncio.Event()
        self._away = False
        self.total: Counter[str] = Counter(sent=0, dropped=0)

    def __repr__(self) -> str:
        return f"Exporter({self._url}, waiting={len(self._waiting)}, {dict(self.total)})"

    def offer(self, span: Span) -> None:
        """Take a span to be sent; never waits."""
        self._waiting.append(span)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.total["dropped"] += 1
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    await self._send(session)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        batch = [self._waiting.popleft() for _ in range(min(MAX_SENT, len(self._waiting)))]
        body = encoded(batch, **self._names)
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            self._waiting.extendleft(reversed(batch))
            await self._wait(str(error) or type(error).__name__)
            return
        if status in (429, 502, 503, 504):  # those that OTLP says to try again
            self._waiting.extendleft(reversed(batch))
            await self._wait(f"status {status}")
            return
        self._away = False
        self.total["sent" if status < 300 else "dropped"] += len(batch)
        if status >= 300:
            log.warning("the collector refused %d spans: status %d", len(batch), status)

    async def _wait(self, why: str) -> None:
        if not self._away:
            log.warning("spans cannot be sent to %s: %s", self._url, why)
        self._away = True
        await asyncio.sleep(RETRY_S)
