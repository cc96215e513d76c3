import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from federation.runtime import otlp
from federation.runtime.otlp import Exporter, Span, encoded, span_id, trace_id

AT = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = Span(
    trace=trace_id("r"),
    id=span_id("r", 1),
    parent=span_id("r"),
    name="rollout baking",
    start=AT,
    end=AT + timedelta(seconds=2),
    attributes={"fed.rollout": "r", "fed.rollout.wave": 1, "share": 0.5},
    error="p95 +38 %",
)


def test_a_span_in_the_words_of_the_protocol() -> None:
    (resource,) = json.loads(encoded([SPAN], service="s", version="1"))["resourceSpans"]
    names = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
    assert names == {"service.name": "s", "service.version": "1"}
    (span,) = resource["scopeSpans"][0]["spans"]
    assert (len(span["traceId"]), len(span["spanId"]), len(span["parentSpanId"])) == (32, 16, 16)
    assert span["startTimeUnixNano"] == "1767225600000000000"
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 2_000_000_000
    assert span["status"] == {"code": 2, "message": "p95 +38 %"}
    values = {a["key"]: a["value"] for a in span["attributes"]}
    assert values["fed.rollout.wave"] == {"intValue": "1"}
    assert values["share"] == {"doubleValue": 0.5}


def test_ids_are_the_same_after_a_restart() -> None:
    assert trace_id("r", 1) == trace_id("r", 1) != trace_id("r", 2)
    assert span_id("ab", "c") != span_id("a", "bc")


class Collector:
    """Answers with these statuses, the last one again and again."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.got: list[Any] = []

    def names(self) -> list[str]:
        """Return what the spans were called that came."""
        scopes = [each["resourceSpans"][0]["scopeSpans"][0] for each in self.got]
        return [span["name"] for scope in scopes for span in scope["spans"]]

    async def answer(self, request: web.Request) -> web.Response:
        """Take one request."""
        self.got.append(json.loads(await request.read()))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return web.Response(status=status)


@asynccontextmanager
async def collecting(collector: Collector) -> AsyncIterator[Exporter]:
    app = web.Application()
    app.router.add_post("/v1/traces", collector.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    exporter = Exporter(f"http://127.0.0.1:{port}/", service="s", version="1")
    task = asyncio.get_running_loop().create_task(exporter.run())
    try:
        yield exporter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


async def until(exporter: Exporter, what: str, count: int) -> None:
    async with asyncio.timeout(10):
        while exporter.total[what] < count:
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RETRY_S", 0.01)


async def test_spans_are_sent_and_tried_again() -> None:
    collector = Collector(503, 200)
    async with collecting(collector) as exporter:
        exporter.offer(SPAN)
        await until(exporter, "sent", 1)
    assert len(collector.got) == 2
    assert collector.got[0] == collector.got[1]


async def test_what_the_collector_refuses_is_dropped() -> None:
    async with collecting(Collector(400)) as exporter:
        exporter.offer(SPAN)
        await until(exporter, "dropped", 1)
    assert exporter.total["sent"] == 0


def test_a_collector_that_is_away_costs_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MAX_WAITING", 3)
    exporter = Exporter("http://127.0.0.1:9", service="s", version="1")
    for _ in range(5):
        exporter.offer(SPAN)
    assert exporter.total["dropped"] == 2
    assert "waiting=3" in repr(exporter)
