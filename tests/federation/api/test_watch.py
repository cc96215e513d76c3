import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest

from federation.app import ControlPlane
from federation.publisher import HISTORY, Change
from tests.fakes.control_plane import LOCATION, Operator

REGION = {"location": LOCATION}


class Told(NamedTuple):
    event: str
    name: str
    id: str
    data: Any


class Watcher:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> str:
        async with asyncio.timeout(5):
            return (await self.response.content.readuntil(b"\n\n")).decode()

    async def next(self) -> Told:
        lines = (line.partition(": ") for line in (await self.block()).splitlines() if line)
        fields = {key: value for key, _, value in lines}
        data = json.loads(fields["data"])
        name = data.get("metadata", {}).get("name", "")
        return Told(fields["event"], name, fields.get("id", ""), data)


@asynccontextmanager
async def watching(api: Operator, query: str = "", **headers: str) -> AsyncIterator[Watcher]:
    sent = {"Authorization": f"Bearer {api.token}"} | headers
    url = f"{api.base}/api/v1/regions?watch=true{query}"
    async with api.session.get(url, headers=sent) as response:
        assert response.content_type == "text/event-stream"
        yield Watcher(response)


async def test_a_watch_begins_with_what_is_there_and_goes_on_with_changes(api: Operator) -> None:
    for name in ("a", "b"):
        await api.put("Region", name, REGION)
    async with watching(api) as watcher:
        first, second = await watcher.next(), await watcher.next()
        assert [(t.event, t.name) for t in (first, second)] == [("ADDED", "a"), ("ADDED", "b")]
        assert (first.id, bool(second.id)) == ("", True)
        changed = await api.put("Region", "a", {"location": {"latitude": 0, "longitude": 0}})
        told = await watcher.next()
        assert (told.event, told.data) == ("MODIFIED", changed.json)
        assert int(told.id) == changed.json["metadata"]["resourceVersion"]
        await api.put("Region", "c", REGION)
        assert (await watcher.next())[:2] == ("ADDED", "c")
        await api.call("DELETE", "/api/v1/regions/b")
        gone = await watcher.next()
        assert (gone.event, gone.data["metadata"]) == ("DELETED", {"name": "b"})


async def test_a_watch_resumes_after_a_revision(api: Operator) -> None:
    await api.put("Region", "a", REGION)
    revision = (await api.call("GET", "/api/v1/regions")).json["metadata"]["resourceVersion"]
    await api.put("Region", "a", {"location": {"latitude": 0, "longitude": 0}})
    await api.put("Region", "b", REGION)
    async with watching(api, f"&resourceVersion={revision}") as watcher:
        assert (await watcher.next())[:2] == ("MODIFIED", "a")
        last = await watcher.next()
        assert last[:2] == ("ADDED", "b")
    await api.put("Region", "c", REGION)
    async with watching(api, "&resourceVersion=1", **{"Last-Event-ID": last.id}) as watcher:
        assert (await watcher.next())[:2] == ("ADDED", "c")


async def test_other_kinds_are_not_told(api: Operator) -> None:
    async with watching(api) as watcher:
        await api.put("Model", "m", {"description": "x"})
        await api.put("Region", "a", REGION)
        assert (await watcher.next()).name == "a"


async def test_who_fell_behind_is_told_and_let_go(api: Operator, plane: ControlPlane) -> None:
    start = plane.loop.state.revision
    plane.publisher.publish_changes(
        [Change(revision=start, kind="Model", name=str(n)) for n in range(HISTORY + 1)]
    )
    for revision in (start - 1, start + 100):
        async with watching(api, f"&resourceVersion={revision}") as watcher:
            told = await watcher.next()
            assert (told.event, told.data["reason"]) == ("ERROR", "fell-behind")
            assert await watcher.response.content.read() == b""


async def test_a_malformed_revision_is_refused(api: Operator) -> None:
    for query in ("&resourceVersion=x", "&resourceVersion=-1", "&resourceVersion=" + "9" * 30):
        answer = await api.call("GET", f"/api/v1/regions?watch=true{query}")
        assert answer.status == 400


async def test_a_quiet_watch_gets_heartbeats(
    plane: ControlPlane, api: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane.api.watch, "_heartbeat_s", 0.05)
    async with watching(api) as watcher:
        assert await watcher.block() == ":\n\n"


async def test_a_watcher_that_leaves_is_forgotten(api: Operator, plane: ControlPlane) -> None:
    async with watching(api):
        assert repr(plane.api.watch) == "Watch(watchers=1)"
    async with asyncio.timeout(5):
        while repr(plane.api.watch) != "Watch(watchers=0)":
            await asyncio.sleep(0.01)


async def test_a_watch_ends_with_the_right_to_watch(api: Operator) -> None:
    made = await api.call("POST", "/api/v1/keys/alice", {"grants": [{"role": "viewer"}]})
    await api.put("Region", "a", REGION)
    async with watching(api, Authorization=f"Bearer {made.json['text']}") as watcher:
        assert (await watcher.next()).name == "a"
        await api.put("Region", "b", REGION)
        assert (await watcher.next()).name == "b"
        await api.call("DELETE", "/api/v1/keys/alice")
        await api.put("Region", "c", REGION)
        told = await watcher.next()
        assert (told.event, told.data["reason"]) == ("ERROR", "unauthenticated")
        async with asyncio.timeout(5):
            assert await watcher.response.content.read() == b""
