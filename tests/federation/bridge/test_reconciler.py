"""What the bridge does when either end says no, and how often it asks."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from federation.bridge.control_plane import ControlPlane
from federation.bridge.policy.custom import BRIDGED, Bridged
from federation.bridge.policy.decide import Create
from federation.bridge.reconciler import Reconciler
from federation.contract.errors import Conflict, FederationError, NotFound, Unavailable
from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from federation.runtime.clock import SystemClock
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.federation.bridge.rig import QUICK, until
from tests.federation.kube.following import busiest

Obj = dict[str, Any]
HALF_GAP_S = QUICK.gap_s / 2  # looks are a gap apart, calls a bit less where the machine is busy


class Plane(ControlPlane):
    """A control plane that keeps objects in a dict, and refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__("https://127.0.0.1:9", token_file="", ca_file="")
        self.objects: dict[str, Obj] = {}
        self.asked: list[tuple[float, str]] = []
        self.refuse: Callable[[str], FederationError | None] = lambda _: None
        self.version = 0

    def note(self, what: str) -> None:
        self.asked.append((asyncio.get_running_loop().time(), what))
        if (error := self.refuse(what)) is not None:
            raise error

    def write(self, name: str, spec: object) -> Obj:
        self.version += 1
        made = self.objects.get(name, {}).get("metadata", {}).get("createdAt", f"t{self.version}")
        metadata = {"name": name, "createdAt": made, "resourceVersion": self.version}
        replicas = getattr(spec, "replicas", 1)
        self.objects[name] = {
            "metadata": metadata,
            "spec": {"model": "m", "replicas": replicas},
            "status": {"ready": True},
        }
        return self.objects[name]

    async def all_of(self, bridged: Bridged) -> dict[str, Obj]:
        self.note("list")
        return dict(self.objects) if bridged is BRIDGED[1] else {}

    async def get(self, bridged: Bridged, name: str) -> Obj | None:
        self.note("get")
        return self.objects.get(name)

    async def create(self, bridged: Bridged, name: str, command: Create) -> Obj:
        self.note("create")
        return self.write(name, command.spec)

    async def change(self, bridged: Bridged, name: str, spec: object, expected: int) -> Obj:
        self.note("change")
        if self.objects[name]["metadata"]["resourceVersion"] != expected:
            raise Conflict("it changed.", reason="stale-version")
        return self.write(name, spec)

    async def remove(self, bridged: Bridged, name: str, expected: int) -> None:
        self.note("remove")
        self.objects.pop(name, None)

    def times(self, what: str) -> list[float]:
        return [at for at, asked in self.asked if asked == what]


class Rig:
    def __init__(self, fake: FakeKubeApi, api: KubeApi) -> None:
        self.fake, self.plane = fake, Plane()
        self.its = Reconciler(
            api=api,
            control_plane=self.plane,
            clock=SystemClock(),
            dice=random.Random(1),
            patience=QUICK,
        )

    def put(self, name: str = "d", **spec: Any) -> None:
        """As a user does, and as the watcher tells it."""
        old = self.get(name) or {"metadata": {"name": name}}
        self.fake.put({**old, "kind": "ModelDeployment", "spec": {"model": "m", **spec}})
        self.tell(name)

    def tell(self, name: str = "d") -> None:
        found = self.get(name)
        assert found is not None
        self.its.shelf.apply("ModelDeployment", "MODIFIED", found)
        self.its.wake()

    def get(self, name: str = "d") -> Obj | None:
        kind = self.fake.kind("ModelDeployment")
        found = self.fake.objects.select(kind, "", lambda o: o["metadata"]["name"] == name)
        return found[0] if found else None

    def synced(self) -> str:
        conditions = ((self.get() or {}).get("status") or {}).get("conditions") or [{}]
        return str(conditions[0].get("reason", ""))

    def patches(self) -> list[float]:
        return [r.at for r in self.fake.log if r.verb == "patch"]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Rig]:
    async with fake_kube_api() as fake:
        api = KubeApi(KubeAccess(kubeconfig=str(fake.kubeconfig(folder))))
        rig = Rig(fake, api)
        task = asyncio.create_task(rig.its.run())
        try:
            yield rig
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as found:
        yield found


async def applied(rig: Rig) -> None:
    rig.put()
    await until(lambda: rig.synced() == "Applied")


async def test_a_stale_read_of_kubernetes_is_tried_again_when_the_news_come(rig: Rig) -> None:
    await applied(rig)
    found = rig.get()
    assert found is not None
    rig.fake.put({**found, "spec": {"model": "m", "replicas": 4}})  # not told yet
    rig.plane.objects["d"]["status"]["warm"] = 1
    await until(lambda: rig.its.calls["kubernetes", "Conflict"] > 0)
    assert rig.its.failing == 1
    rig.tell()
    await until(lambda: rig.plane.objects["d"]["spec"]["replicas"] == 4)
    await until(lambda: rig.its.failing == 0)


async def test_a_stale_read_of_the_control_plane_is_read_again(rig: Rig) -> None:
    await applied(rig)
    rig.plane.refuse = lambda what: Unavailable("no.") if what == "list" else None
    await until(lambda: rig.its.silence is not None)
    rig.plane.refuse = lambda _: None
    await until(lambda: rig.its.silence is None)
    rig.plane.write("d", None)  # behind the back of what was listed
    rig.put(replicas=5)
    await until(lambda: rig.plane.objects["d"]["spec"]["replicas"] == 5)
    await until(lambda: rig.synced() == "Applied")


async def test_one_that_vanishes_meanwhile_is_made_anew(rig: Rig) -> None:
    await applied(rig)
    gone = NotFound("gone.", reason="unknown-deployment")

    def vanish(what: str) -> FederationError | None:
        if what == "change":
            rig.plane.objects.pop("d", None)
            return gone
        return None

    rig.plane.refuse = vanish
    rig.put(replicas=6)
    await until(lambda: len(rig.plane.times("create")) == 2)
    await until(lambda: rig.synced() == "Applied")


async def test_refusals_are_told_and_tried_later_and_later(rig: Rig) -> None:
    error = NotFound("model 'm' is unknown.", reason="unknown-model")
    rig.plane.refuse = lambda what: error if what == "create" else None
    rig.put()
    await until(lambda: rig.synced() == "Refused")
    writes = len(rig.patches())
    await until(lambda: len(rig.plane.times("create")) >= 4)
    assert len(rig.patches()) == writes  # it was told once
    assert busiest(rig.plane.times("create"), HALF_GAP_S) == 1
    rig.plane.refuse = lambda _: None
    await until(lambda: rig.synced() == "Applied")
    assert rig.its.failing == 0


async def test_a_short_silence_is_not_told_to_everybody(rig: Rig) -> None:
    await applied(rig)
    writes, polls = len(rig.patches()), len(rig.plane.times("list"))
    rig.plane.refuse = lambda _: Unavailable("busy.") if rig.plane.asked[-1][1] == "list" else None
    await until(lambda: rig.its.silence is not None)
    rig.plane.refuse = lambda _: None
    await until(lambda: rig.its.silence is None)
    await until(lambda: len(rig.plane.times("list")) >= polls + 5)
    assert len(rig.patches()) == writes
    rig.plane.refuse = lambda _: Unavailable("gone.")
    await until(lambda: rig.synced() == "ControlPlaneUnreachable")


async def test_a_silent_control_plane_is_asked_ever_more_rarely_and_once_for_all(rig: Rig) -> None:
    for number in range(5):
        rig.put(f"d{number}")
    rig.plane.refuse = lambda _: Unavailable("nobody is there.")
    await until(lambda: rig.its.silence is not None)
    rig.plane.asked.clear()
    await asyncio.sleep(1.0)
    assert len(rig.plane.asked) >= 2
    assert {what for _, what in rig.plane.asked} == {"list"}
    assert busiest(rig.plane.times("list"), HALF_GAP_S) == 1
    writes = len(rig.patches())
    await asyncio.sleep(0.3)
    assert len(rig.patches()) == writes


@pytest.mark.parametrize("fault", ["500", "429", "409", "away"])
async def test_a_sick_api_server_is_not_hammered(rig: Rig, fault: str) -> None:
    """1 s at a twentieth of all waits: 20 seconds."""
    await applied(rig)
    tries: list[float] = []
    merge = rig.its._api.merge

    async def counted(*args: Any, **rest: Any) -> Any:
        tries.append(asyncio.get_running_loop().time())
        return await merge(*args, **rest)

    rig.its._api.merge = counted  # type: ignore[method-assign]
    match fault:
        case "500":
            rig.fake.faults.fail(500, lambda r: r.verb == "patch")
        case "429":
            rig.fake.faults.throttle(lambda r: r.verb == "patch", retry_after_s=1)
        case "409":
            found = rig.get()
            assert found is not None
            rig.fake.put(found)  # a version that the bridge never hears of
        case _:
            await rig.fake.stop()
    rig.plane.objects["d"]["status"]["warm"] = 7
    await until(lambda: tries)
    begun = asyncio.get_running_loop().time()
    await asyncio.sleep(1.0)
    assert 1 <= len(tries) <= 10 * (asyncio.get_running_loop().time() - begun) + 5
    assert busiest(tries, HALF_GAP_S) == 1
    if fault == "429":
        assert busiest(tries, 0.9) == 1
    rig.fake.faults.heal()
    await rig.fake.start() if fault == "away" else None
    rig.tell()
    await until(lambda: (rig.get() or {})["status"]["warm"] == 7)


async def test_a_fight_with_another_writer_is_slow(rig: Rig) -> None:
    """Somebody changes the status back each time that it is written."""
    await applied(rig)
    before, begun = len(rig.patches()), asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < begun + 1.0:
        found = rig.get()
        assert found is not None
        if found["status"].get("observedGeneration") is not None:
            rig.fake.put({**found, "status": {**found["status"], "observedGeneration": None}})
            rig.tell()
        await asyncio.sleep(0.005)
    elapsed_s = asyncio.get_running_loop().time() - begun
    assert 2 <= len(rig.patches()) - before <= elapsed_s / QUICK.gap_s + 2


async def test_one_that_is_gone_is_forgotten(rig: Rig) -> None:
    await applied(rig)
    rig.fake.remove("ModelDeployment", "d")
    found = rig.get()
    assert found is not None  # our finalizer holds it
    rig.tell()
    await until(lambda: rig.get() is None)
    assert rig.plane.objects == {}
    assert rig.its.shelf.names() == []
    assert "objects=0" in repr(rig.its)
