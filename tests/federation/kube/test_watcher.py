"""A view is kept true over real connections, whatever happens to these and to the server."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from federation.kube import api as api_module
from federation.kube.access import KubeAccess
from federation.kube.api import Selection
from federation.kube.resources import NODES, PODS, RESOURCE_SLICES
from federation.kube.watcher import KubeWatcher
from federation.runtime.clock import SystemClock
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.fakes.kube_kinds import KINDS, Kind
from tests.federation.kube.following import GAP_S, SHORT, CountingApi, busiest, until

Obj = dict[str, Any]


class Names:
    """A view that knows which objects there are."""

    def __init__(self) -> None:
        self.known: dict[str, set[str]] = {kind: set() for kind in ("Pod", "Node", "ResourceSlice")}

    def replace(self, kind: str, objects: Iterable[Obj]) -> None:
        self.known[kind] = {obj["metadata"]["name"] for obj in objects}

    def apply(self, kind: str, change: str, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        if change == "DELETED":
            self.known[kind].discard(name)
        else:
            self.known[kind].add(name)


class Rig:
    """A fake, a watcher that follows its pods and nodes, and what the watcher's view knows."""

    def __init__(self, fake: FakeKubeApi, folder: Path) -> None:
        self.fake = fake
        self.api = CountingApi(KubeAccess(kubeconfig=str(fake.kubeconfig(folder))))
        self.view = Names()
        selections = [
            Selection(resource=PODS, fields="status.phase!=Succeeded,status.phase!=Failed"),
            Selection(resource=NODES),
            Selection(resource=RESOURCE_SLICES, optional=True),
        ]
        self.watcher = KubeWatcher(
            self.api,
            selections,
            self.view,
            clock=SystemClock(),
            dice=random.Random(1),
            patience=SHORT,
        )

    @property
    def pods(self) -> set[str]:
        return self.view.known["Pod"]

    def put(self, name: str, phase: str = "Running") -> None:
        self.fake.put({"kind": "Pod", "metadata": {"name": name}, "status": {"phase": phase}})

    async def live(self) -> None:
        """Wait until all that exists is watched."""
        served = {kind.plural for kind in self.fake.kinds} & {"pods", "nodes", "resourceslices"}
        await until(lambda: self.watcher.settled and len(self.fake.watches) == len(served))


@asynccontextmanager
async def running(folder: Path, kinds: tuple[Kind, ...] = KINDS) -> AsyncIterator[Rig]:
    async with fake_kube_api(kinds) as fake:
        rig = Rig(fake, folder)
        rig.put("first")
        task = asyncio.create_task(rig.watcher.run())
        try:
            await rig.live()
            yield rig
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await rig.api.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_changes_arrive(rig: Rig) -> None:
    changes = []
    rig.watcher.on_change = lambda: changes.append(1)
    assert rig.pods == {"first"}
    rig.put("second")
    await until(lambda: rig.pods == {"first", "second"})
    rig.fake.remove("Pod", "first")
    await until(lambda: rig.pods == {"second"})
    rig.put("second", phase="Succeeded")  # leaves the selection
    await until(lambda: not rig.pods)
    assert len(changes) == 3
    assert rig.watcher.proven_s() is not None
    assert rig.watcher.reasons(after_s=0.0) == []


async def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.fake.put(*({"kind": "Pod", "metadata": {"name": f"p{n}"}} for n in range(240)))
        rig.fake.objects.compact()
        rig.fake.cut()
        await until(lambda: len(rig.pods) == 241)
        lists = rig.fake.requests("pods", "list")
        assert [bool(request.query.get("continue")) for request in lists[1:]] == [False, True, True]
        await rig.live()
        rig.fake.faults.expire(lambda request: bool(request.query.get("continue")), times=1)
        rig.fake.remove("Pod", "p7")
        rig.fake.put({"kind": "Pod", "metadata": {"name": "p0-new"}})
        rig.fake.objects.compact()
        rig.fake.cut()
        await until(lambda: len(rig.pods) == 241 and "p7" not in rig.pods)
        await rig.live()
        assert "p0-new" in rig.pods


async def test_watches_go_on_from_where_they_were_without_a_new_list(rig: Rig) -> None:
    for number in range(3):
        rig.fake.cut()
        rig.put(f"later-{number}")
        await until(lambda number=number: f"later-{number}" in rig.pods)  # type: ignore[misc]
    assert len(rig.fake.requests("pods", "list")) == 1
    await until(lambda: len(rig.fake.requests("nodes", "watch")) >= 5)  # they end by themselves too
    assert len(rig.fake.requests("nodes", "list")) == 1


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_forgotten_version_is_listed_again(rig: Rig, *, as_event: bool) -> None:
    rig.fake.gone_as_event = as_event
    rig.put("between")
    await until(lambda: "between" in rig.pods)
    rig.fake.cut()
    rig.put("second")
    rig.fake.remove("Pod", "first")
    rig.fake.remove("Pod", "between")
    rig.fake.objects.compact()
    await until(lambda: rig.pods == {"second"})
    await rig.live()
    rig.put("third")
    await until(lambda: rig.pods == {"second", "third"})


async def test_a_killed_server_leaves_a_picture_that_ages_and_is_not_hammered(rig: Rig) -> None:
    """1.5 s at a twentieth of all waits: 30 seconds."""
    loop = asyncio.get_running_loop()
    await rig.fake.stop()
    rig.put("second")
    begun, proven = loop.time(), rig.watcher.proven_s()
    assert proven is not None
    await asyncio.sleep(1.5)
    assert rig.pods == {"first"}
    since = rig.watcher.proven_s()
    assert since is not None
    assert SystemClock().monotonic_s() - since >= 1.5
    (reason, *others) = rig.watcher.reasons(after_s=0.5)
    assert "pods" in reason
    assert "cannot be reached" in reason
    assert len(others) == 2
    for plural in ("pods", "nodes", "resourceslices"):
        asked = rig.api.times(plural, since=begun)
        assert 2 <= len(asked) <= 20
        assert busiest(asked, GAP_S * 0.9) <= 1
    await rig.fake.start()
    await until(lambda: rig.pods == {"first", "second"})
    await rig.live()
    assert rig.watcher.reasons(after_s=0.0) == []
    assert len(rig.fake.requests("pods", "list")) == 1


async def test_a_storm_of_429_is_waited_out(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    rig.fake.faults.throttle(retry_after_s=1)
    rig.fake.cut()
    begun = loop.time()
    await asyncio.sleep(1.6)
    for plural in ("pods", "nodes"):
        asked = rig.api.times(plural, since=begun)
        assert 1 <= len(asked) <= 3
        assert busiest(asked[1:], 1.0) <= 1  # one that was on its way, then as the server said
    assert "Too many requests" in rig.watcher.reasons(after_s=0.5)[0]
    rig.fake.faults.heal()
    rig.put("second")
    await until(lambda: rig.pods == {"first", "second"})


@pytest.mark.parametrize("fault", ["410", "500", "garbage", "cut"])
async def test_other_storms_are_no_busy_loop(rig: Rig, fault: str) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    match fault:
        case "410":
            rig.fake.faults.expire(lambda request: request.verb == "watch")
        case "500":
            rig.fake.faults.fail(500)
        case "garbage":
            rig.fake.faults.garbage = True
        case _:
            pass

    async def cut() -> None:
        while not stop.is_set():
            rig.fake.cut()
            await asyncio.sleep(0.005)

    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        if fault == "cut":
            group.create_task(cut())
        else:
            rig.fake.cut()
        await asyncio.sleep(0.7)
        stop.set()
    asked = rig.api.times("pods", since=begun)
    assert 2 <= len(asked) <= 16
    assert busiest(asked[2:], GAP_S * 0.9) <= 1
    rig.fake.faults.heal()
    rig.put("second")
    await until(lambda: rig.pods == {"first", "second"})


async def test_a_half_open_watch_ages_and_is_replaced(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "GRACE_S", 0.3)
    rig.fake.cut()
    await until(lambda: len(rig.fake.requests("pods", "watch")) > 1)
    await rig.live()
    rig.fake.faults.deaf = True
    proven = rig.watcher.proven_s()
    assert proven is not None
    rig.put("second")
    await until(lambda: any("in time" in reason for reason in rig.watcher.reasons(after_s=0.5)))
    assert rig.pods == {"first"}
    assert (rig.watcher.proven_s() or 0.0) <= proven + 1.5
    rig.fake.faults.deaf = False
    await until(lambda: rig.pods == {"first", "second"})
    await until(lambda: (rig.watcher.proven_s() or 0.0) > proven + 1.5)


async def test_a_kind_that_the_server_lacks_is_simply_empty(tmp_path: Path) -> None:
    some = tuple(kind for kind in KINDS if kind.group != "resource.k8s.io")
    async with running(tmp_path, some) as rig:
        assert rig.view.known["ResourceSlice"] == set()
        assert rig.watcher.settled
        assert rig.watcher.proven_s() is not None
        assert rig.watcher.reasons(after_s=0.0) == []
        assert len(rig.fake.requests("resourceslices")) == 1


async def test_what_is_denied_ends_it_and_the_view_keeps_what_it_knew(tmp_path: Path) -> None:
    async with fake_kube_api() as fake:
        rig = Rig(fake, tmp_path)
        rig.put("first")
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.watcher.run())
            await rig.live()
            fake.faults.deny("pods")
            fake.cut()
        assert list(rig.watcher.denied) == [PODS]
        assert "cannot watch" in rig.watcher.denied[PODS]
        assert rig.pods == {"first"}
        await rig.api.close()
