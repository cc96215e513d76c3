"""Requests that go wrong: every fault is one of the errors that callers know.

What goes right is in tests/contract/test_kube_api.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from federation.kube import api as module
from federation.kube.access import KubeAccess
from federation.kube.api import Change, KubeApi, Selection
from federation.kube.errors import (
    Conflict,
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    Refused,
    Throttled,
    Unauthorized,
    Unavailable,
    Unusable,
)
from federation.kube.resources import EDGE_CLUSTERS, LEASES, NODES, PODS, RESOURCE_SLICES
from tests.fakes.http_peers import raw_upstream, reply
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.fakes.kube_kinds import KINDS, Refusal

ALL_PODS = Selection(resource=PODS)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKubeApi]:
    async with fake_kube_api() as fake:
        yield fake


@pytest.fixture
async def api(fake: FakeKubeApi, tmp_path: Path) -> AsyncIterator[KubeApi]:
    api = KubeApi(KubeAccess(kubeconfig=str(fake.kubeconfig(tmp_path, token="secret-token"))))
    yield api
    await api.close()


def pod(name: str) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": name}, "spec": {}}


async def collect(api: KubeApi, version: str, *, timeout_s: float = 1.0) -> list[Change]:
    async with aclosing(api.watch(ALL_PODS, version, timeout_s=timeout_s)) as changes:
        return [change async for change in changes]


async def test_the_token_goes_along_and_is_not_shown(fake: FakeKubeApi, api: KubeApi) -> None:
    assert repr(api) == "KubeApi(not connected yet)"
    await api.list(ALL_PODS)
    assert fake.log[-1].token == "Bearer secret-token"
    assert repr(api) == f"KubeApi({fake.url})"


async def test_a_server_that_is_away_and_comes_back(fake: FakeKubeApi, api: KubeApi) -> None:
    await api.list(ALL_PODS)
    await fake.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await api.list(ALL_PODS)
    await fake.start()
    assert (await api.list(ALL_PODS)).items == ()


async def test_a_server_that_does_not_answer(
    fake: FakeKubeApi, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.2)
    fake.faults.hang = lambda request: True
    with pytest.raises(Unavailable, match="in time"):
        await api.request("GET", PODS.path())


async def test_refusals(fake: FakeKubeApi, api: KubeApi) -> None:
    fake.faults.throttle(times=1, retry_after_s=7)
    with pytest.raises(Throttled) as throttled:
        await api.list(ALL_PODS)
    assert throttled.value.retry_after_s == 7.0
    fake.faults.fail(503, times=1)
    with pytest.raises(Unavailable, match="on purpose"):
        await api.list(ALL_PODS)
    fake.faults.expire(lambda request: True, times=1)
    with pytest.raises(Gone):
        await api.list(ALL_PODS)
    fake.faults.deny("pods", "list")
    with pytest.raises(Forbidden, match="cannot list"):
        await api.list(ALL_PODS)
    assert await api.may("watch", PODS)
    assert not await api.may("list", PODS)


async def test_a_patch_is_merged_if_it_is_for_the_newest_version(
    fake: FakeKubeApi, api: KubeApi
) -> None:
    fake.put({"kind": "EdgeCluster", "metadata": {"name": "c"}, "spec": {"region": "eu"}})
    path = EDGE_CLUSTERS.path("default", "c")
    patch = {"spec": {"allowCode": True}}
    merged = await api.merge(path, patch, manager="me")
    assert merged["spec"] == {"region": "eu", "allowCode": True}
    older = {"metadata": {"resourceVersion": "1"}, "spec": {"allowCode": None}}
    with pytest.raises(Conflict):
        await api.merge(path, older, manager="me")
    with pytest.raises(Refused, match="unknown field"):
        await api.merge(path, {"spec": {"zone": "x"}}, manager="me")


async def test_a_list_that_was_forgotten_between_two_pages(fake: FakeKubeApi, api: KubeApi) -> None:
    fake.put(*(pod(f"p{number}") for number in range(5)))
    with pytest.raises(Gone):
        async for _ in api.pages(ALL_PODS, limit=2):
            fake.objects.compact()


async def test_after_a_401_the_credentials_are_read_again(
    fake: FakeKubeApi, api: KubeApi, tmp_path: Path
) -> None:
    await api.list(ALL_PODS)
    refusal = Refusal(401, "Unauthorized", "Unauthorized")
    fake.faults._add(refusal, lambda request: request.token == "Bearer secret-token", None)
    fake.kubeconfig(tmp_path, token="renewed")
    with pytest.raises(Unauthorized):
        await api.list(ALL_PODS)
    await api.list(ALL_PODS)
    assert fake.log[-1].token == "Bearer renewed"


async def test_an_unusable_access(tmp_path: Path) -> None:
    api = KubeApi(KubeAccess(kubeconfig=str(tmp_path / "none")))
    with pytest.raises(Unusable, match="kubeconfig"):
        await api.list(ALL_PODS)
    await api.close()


async def test_kinds_that_a_server_lacks(tmp_path: Path) -> None:
    some = tuple(kind for kind in KINDS if kind.group != "resource.k8s.io")
    async with fake_kube_api(some) as fake:
        api = KubeApi(KubeAccess(kubeconfig=str(fake.kubeconfig(tmp_path))))
        try:
            assert not await api.serves(RESOURCE_SLICES)
            assert await api.serves(NODES)
            assert await api.serves(LEASES)
            with pytest.raises(NotFound):
                await api.list(Selection(resource=RESOURCE_SLICES))
        finally:
            await api.close()


# ---------------------------------------------------------------- watches


async def test_bookmarks_come_and_move_the_version(fake: FakeKubeApi, api: KubeApi) -> None:
    fake.bookmark_s = 0.1
    start = (await api.list(ALL_PODS)).version
    fake.put({"kind": "Node", "metadata": {"name": "n"}})
    told = await collect(api, start)
    assert {change.type for change in told} == {"BOOKMARK"}
    assert int(told[0].version) > int(start)


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_version_that_is_too_old(
    fake: FakeKubeApi, api: KubeApi, *, as_event: bool
) -> None:
    start = (await api.list(ALL_PODS)).version
    fake.objects.compact()
    fake.gone_as_event = as_event
    with pytest.raises(Gone, match="too old"):
        await collect(api, start)


async def test_a_watch_that_is_cut(fake: FakeKubeApi, api: KubeApi) -> None:
    start = (await api.list(ALL_PODS)).version
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_failure(api, start))
        await _until(lambda: bool(fake.watches))
        fake.cut()
    assert isinstance(waiting.result(), Unavailable)


async def test_a_watch_that_says_nothing_and_never_ends(
    fake: FakeKubeApi, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    start = (await api.list(ALL_PODS)).version
    fake.faults.deaf = True
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert isinstance(await _failure(api, start), Unavailable)
    assert 1.0 <= loop.time() - begun <= 5.0


async def test_a_watch_that_talks_rubbish(fake: FakeKubeApi, api: KubeApi) -> None:
    start = (await api.list(ALL_PODS)).version
    fake.faults.garbage = True
    assert "JSON" in str(await _failure(api, start))


async def _failure(api: KubeApi, version: str) -> KubeError | None:
    try:
        await collect(api, version, timeout_s=1.0)
    except KubeError as error:
        return error
    return None


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b'{"kind": ', b"\xff\xfe"], ids=repr
)
async def test_answers_that_are_no_objects(tmp_path: Path, body: bytes) -> None:
    async def script(head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(body, head=b"Connection: close\r\n"))
        await writer.drain()

    async with raw_upstream(script) as upstream:
        path = FakeKubeApi().kubeconfig(tmp_path)
        path.write_text(path.read_text().replace("server: ''", f"server: {upstream.url}"))
        api = KubeApi(KubeAccess(kubeconfig=str(path)))
        try:
            with pytest.raises(Unavailable):
                await api.request("GET", "/api/v1/pods")
        finally:
            await api.close()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'{"type": "DELETED", "object": {}}', 1),
        (b'{"type": "DELETED", "object": {}}\n\n', 1),
        (b'{"type": "DELETED", "object": {}}\n{"type": "DEL', None),
        (b'{"type": "DELETED", "object": {"a": "' + b"x" * 300, None),
    ],
    ids=["no-newline", "empty-line", "half", "too-long"],
)
async def test_how_a_watch_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, told: int | None
) -> None:
    monkeypatch.setattr(module, "MAX_EVENT", 200)

    async def script(head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(sent, head=b"Connection: close\r\n"))
        await writer.drain()

    async with raw_upstream(script) as upstream:
        path = FakeKubeApi().kubeconfig(tmp_path)
        path.write_text(path.read_text().replace("server: ''", f"server: {upstream.url}"))
        api = KubeApi(KubeAccess(kubeconfig=str(path)))
        try:
            if told is None:
                with pytest.raises(Unavailable):
                    await collect(api, "1")
            else:
                assert len(await collect(api, "1")) == told
        finally:
            await api.close()


@pytest.mark.parametrize("line", [b"[1]", b'{"type": 5, "object": {}}', b'{"type": "ADDED"}'])
def test_events_that_are_none(line: bytes) -> None:
    with pytest.raises(Unavailable):
        module._change(line)


def test_an_error_event_without_a_code() -> None:
    with pytest.raises(Unavailable):
        module._change(b'{"type": "ERROR", "object": {"message": "odd"}}')
