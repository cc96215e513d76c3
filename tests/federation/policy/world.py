"""A small federation for tests of deciders: says in one line what events say in ten.

Input: what a test wants to happen. Output: events, given to `decide` one by one; the commands of
all of them are kept in `commands`, and every refusal is checked to have changed nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from federation.contract.capacity import Capacity, Device
from federation.contract.errors import FederationError
from federation.contract.package import ModelPackage
from federation.contract.resources import (
    ClusterSpec,
    DeploymentSpec,
    PrefetchSpec,
    RegionSpec,
    RouterSpec,
)
from federation.contract.spiffe import PeerRole
from federation.contract.sync import Disk
from federation.contract.types import (
    Connectivity,
    EngineKind,
    EngineStatus,
    Location,
    Observed,
    ObservedVersion,
    Report,
    Runtime,
    Scheduling,
    Snapshot,
    Urgency,
    VersionState,
)
from federation.policy import snapshot
from federation.policy.decide import decide
from federation.policy.events import (
    AgentConnected,
    AgentDisconnected,
    AgentReported,
    Applied,
    ClusterRegistered,
    ClusterSchedulingChanged,
    Command,
    DeploymentApplied,
    Event,
    ModelVersionPushed,
    ObjectRemoved,
    RegionApplied,
    Result,
    RouterConnected,
    Started,
    TimePassed,
    Welcomed,
)
from federation.policy.membership.events import (
    Joined,
    PeerAccepted,
    PeerJoined,
    PeerRevoked,
    RouterRegistered,
)
from federation.policy.records import PERSISTENT
from federation.policy.state import State, restore
from federation.policy.sync.events import PrefetchApplied

START = datetime(2026, 1, 1, tzinfo=UTC)
ACTOR = "ada"


def device(number: int, *, healthy: bool = True, memory_mib: int = 24_000) -> Device:
    return Device(
        id=f"gpu-{number}", vendor="NVIDIA", product="L4", memory_mib=memory_mib, healthy=healthy
    )


class World:
    def __init__(self) -> None:
        self.state = State()
        self.now = START
        self.commands: list[Command] = []
        self.engines: dict[str, EngineKind] = {}
        self.gpus: dict[str, int] = {}
        self.disks: dict[str, Disk] = {}
        self.parts = snapshot.Parts()

    def do(self, event: Event) -> Result:
        before = self.state.copy()
        try:
            outcome = decide(self.state, event, self.now)
        except FederationError:
            assert self.state == before, "a refused event changed the state"
            raise
        self.commands.extend(outcome.commands)
        return outcome.result

    def applied(self, event: Event) -> Applied:
        result = self.do(event)
        assert isinstance(result, Applied)
        return result

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.do(TimePassed())

    def restart(self) -> None:
        """The control plane starts anew with what its store remembers."""
        records = {kind: dict(self.state.table(kind)) for kind in PERSISTENT}
        revision = self.state.revision + 1_000
        self.state = restore(records, revision=revision, blank=State(lease=self.state.lease))
        self.do(Started())

    def snapshot(self) -> Snapshot:
        built = snapshot.build(self.state, 1)
        assert built.problems() == ()
        again = snapshot.build(self.state, 1, parts=self.parts)
        assert again == built, "what is remembered of earlier snapshots changes nothing"
        return built

    # ------------------------------------------------------------ people

    def region(self, name: str, latitude: float = 53.3, longitude: float = -6.3) -> Applied:
        spec = RegionSpec(location=Location(latitude=latitude, longitude=longitude))
        return self.applied(RegionApplied(actor=ACTOR, name=name, spec=spec))

    def register(
        self,
        name: str,
        spec: ClusterSpec,
        *,
        token: str = "token",
        rejoin: bool = False,
        require_accept: bool = False,
    ) -> Applied:
        return self.applied(
            ClusterRegistered(
                actor=ACTOR,
                name=name,
                spec=spec,
                token_sha256=f"{token} of {name}",
                token_expires_at=self.now + timedelta(hours=1),
                require_accept=require_accept,
                rejoin=rejoin,
            )
        )

    def cluster(
        self,
        name: str,
        region: str = "eu",
        *,
        engine: EngineKind = EngineKind.TRITON,
        gpus: int = 0,
        spec: ClusterSpec | None = None,
    ) -> None:
        """A cluster that has joined and reported."""
        if region not in self.state.regions:
            self.region(region)
        self.register(name, spec or ClusterSpec(region=region, allow_code=True))
        self.engines[name], self.gpus[name] = engine, gpus
        self.join(name)
        self.connect(name, connectivity=self.state.clusters[name].spec.connectivity)
        self.report(name)

    def push(
        self, model: str, content: str = "1", runtime: Runtime = Runtime.ONNX, *, size: int = 1
    ) -> int:
        event = ModelVersionPushed(
            actor=ACTOR,
            package=ModelPackage(name=model, runtime=runtime),
            digest=f"{model}:{content}",
            size=size,
            files=1,
            source="test",
        )
        return self.applied(event).version

    def deploy(self, spec: DeploymentSpec, name: str = "d") -> Applied:
        return self.applied(DeploymentApplied(actor=ACTOR, name=name, spec=spec))

    def prefetch(self, spec: PrefetchSpec, name: str = "p") -> Applied:
        return self.applied(PrefetchApplied(actor=ACTOR, name=name, spec=spec))

    def schedule(self, cluster: str, scheduling: Scheduling) -> None:
        event = ClusterSchedulingChanged(actor=ACTOR, name=cluster, scheduling=scheduling)
        self.do(event)

    def accept(self, name: str, role: PeerRole = PeerRole.CLUSTER) -> None:
        self.do(PeerAccepted(actor=ACTOR, role=role, name=name))

    def revoke(self, name: str, role: PeerRole = PeerRole.CLUSTER) -> None:
        self.do(PeerRevoked(actor=ACTOR, role=role, name=name))

    def remove(self, kind: str, name: str) -> None:
        self.do(ObjectRemoved(actor=ACTOR, kind=kind, name=name))

    # ------------------------------------------------------------ agents

    def join(
        self,
        name: str,
        *,
        token: str = "token",
        key: str = "key",
        role: PeerRole = PeerRole.CLUSTER,
    ) -> Joined:
        result = self.do(
            PeerJoined(role=role, name=name, token_sha256=f"{token} of {name}", key_sha256=key)
        )
        assert isinstance(result, Joined)
        return result

    def connect(
        self,
        name: str,
        *,
        generation: int | None = None,
        instance: str = "i1",
        connectivity: Connectivity = Connectivity.DIAL,
    ) -> Welcomed:
        """The agent connects with the newest certificate, or with one of another generation."""
        record = self.state.clusters.get(name)
        newest = record.membership.generation if record else 0
        reverse = connectivity is Connectivity.REVERSE
        result = self.do(
            AgentConnected(
                cluster=name,
                instance=instance,
                generation=newest if generation is None else generation,
                engine=self.engines.get(name, EngineKind.TRITON),
                url="" if reverse else f"https://{name}:7500",
                connectivity=connectivity,
            )
        )
        assert isinstance(result, Welcomed)
        return result

    # ------------------------------------------------------------ routers

    def router(self, name: str = "r", *, reverse_address: str = "", instance: str = "i1") -> None:
        """A router that is registered, has joined and is connected; again: it connects anew."""
        if name not in self.state.registered_routers:
            self.register_router(name)
            self.join(name, role=PeerRole.ROUTER)
        self.connect_router(name, reverse_address=reverse_address, instance=instance)

    def register_router(self, name: str, *, token: str = "token", rejoin: bool = False) -> Applied:
        return self.applied(
            RouterRegistered(
                actor=ACTOR,
                name=name,
                spec=RouterSpec(),
                token_sha256=f"{token} of {name}",
                token_expires_at=self.now + timedelta(hours=1),
                rejoin=rejoin,
            )
        )

    def connect_router(
        self,
        name: str,
        *,
        generation: int | None = None,
        reverse_address: str = "",
        instance: str = "i1",
    ) -> None:
        record = self.state.registered_routers.get(name)
        newest = record.membership.generation if record else 0
        event = RouterConnected(
            name=name,
            instance=instance,
            generation=newest if generation is None else generation,
            url="https://r:7400",
            reverse_address=reverse_address,
            location=None,
            software_version="1",
            snapshot_version=3,
        )
        assert self.do(event) is True

    def disconnect(self, name: str) -> None:
        self.do(AgentDisconnected(cluster=name, epoch=self.state.presences[name].epoch))

    def make_report(
        self,
        name: str,
        versions: Sequence[ObservedVersion] = (),
        *,
        generation: int | None = None,
        disk: Disk | None = None,
    ) -> Report:
        """The next report of the newest stream."""
        presence = self.state.presences[name]
        assignment = self.state.clusters[name].assignment
        return Report(
            cluster=name,
            epoch=presence.epoch,
            sequence=presence.sequence + 1,
            capacity=Capacity(devices=tuple(device(i) for i in range(self.gpus.get(name, 0)))),
            observed=Observed(
                observed_generation=assignment.generation if generation is None else generation,
                engine=EngineStatus(kind=self.engines[name], version="2.1", ready=True),
                versions=tuple(versions),
            ),
            disk=disk or self.disks.get(name, Disk()),
            url=f"https://{name}:7500",
        )

    def report(
        self,
        name: str,
        versions: Sequence[ObservedVersion] = (),
        *,
        generation: int | None = None,
        disk: Disk | None = None,
    ) -> bool:
        report = self.make_report(name, versions, generation=generation, disk=disk)
        return self.do(AgentReported(report=report)) is True

    def seen(
        self, name: str, state: VersionState = VersionState.WARMED, *, only: int | None = None
    ) -> list[ObservedVersion]:
        """All assigned versions of a cluster (or one of them) in the given state; those that shall
        only lie ready are never warm."""
        warm = state is VersionState.WARMED
        return [
            ObservedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                state=VersionState.VERIFIED if warm and v.stage_only else state,
            )
            for v in self.state.clusters[name].assignment.versions
            if only in (None, v.version)
        ]

    def serve(self, name: str) -> None:
        """The agent does all that it was told, and reports until nothing new is asked of it."""
        while True:
            generation = self.state.clusters[name].assignment.generation
            self.report(name, self.seen(name))
            if self.state.clusters[name].assignment.generation == generation:
                return

    # ------------------------------------------------------------ questions

    def assigned(self, name: str) -> list[tuple[str, int]]:
        return [(v.model, v.version) for v in self.state.clusters[name].assignment.versions]

    def staged(self, name: str) -> list[tuple[str, int]]:
        """Those of the assigned versions that shall only lie ready."""
        versions = self.state.clusters[name].assignment.versions
        return [(v.model, v.version) for v in versions if v.stage_only]

    def urgency(self, name: str, version: int) -> Urgency:
        versions = self.state.clusters[name].assignment.versions
        return next(v.urgency for v in versions if v.version == version)

    def told(self) -> list[str]:
        """The reasons of all events that were written down, oldest first."""
        return [record.reason for record in self.state.audit.values()]
