"""A small federation for tests of deciders: says in one line what events say in ten.

Input: what a test wants to happen. Output: events, given to `decide` one by one; the commands of
all of them are kept in `commands`, and every refusal is checked to have changed nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from federation.contract.errors import FederationError
from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, DeploymentSpec, RegionSpec
from federation.contract.types import (
    Capacity,
    Device,
    EngineKind,
    EngineStatus,
    FileEntry,
    Location,
    Manifest,
    Observed,
    ObservedVersion,
    Report,
    Runtime,
    Scheduling,
    Snapshot,
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
    Started,
    TimePassed,
    Welcomed,
)
from federation.policy.state import State, restore

START = datetime(2026, 1, 1, tzinfo=UTC)
ACTOR = "ada"


def manifest(model: str, content: str) -> Manifest:
    entry = FileEntry(
        path="model.onnx", size=len(content), blake3=content * 64, sha256=content * 64
    )
    return Manifest(model=model, files=(entry,))


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

    def do(self, event: Event) -> Applied | Welcomed | bool:
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
        kinds = ("Region", "Cluster", "Model", "Deployment", "RetiredModel", "Event", "Receipt")
        records = {kind: dict(self.state.table(kind)) for kind in kinds}
        revision = self.state.revision + 1_000
        self.state = restore(records, revision=revision, lease=self.state.lease)
        self.do(Started())

    def snapshot(self) -> Snapshot:
        built = snapshot.build(self.state, 1)
        assert built.problems() == ()
        return built

    # ------------------------------------------------------------ people

    def region(self, name: str, latitude: float = 53.3, longitude: float = -6.3) -> Applied:
        spec = RegionSpec(location=Location(latitude=latitude, longitude=longitude))
        return self.applied(RegionApplied(actor=ACTOR, name=name, spec=spec))

    def register(
        self, name: str, spec: ClusterSpec, *, token: str = "token", rejoin: bool = False
    ) -> Applied:
        return self.applied(
            ClusterRegistered(
                actor=ACTOR,
                name=name,
                spec=spec,
                token_sha256=f"{token} of {name}",
                token_expires_at=self.now + timedelta(hours=1),
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
        self.connect(name, secret="token")
        self.report(name)

    def push(self, model: str, content: str = "1", runtime: Runtime = Runtime.ONNX) -> int:
        event = ModelVersionPushed(
            actor=ACTOR,
            package=ModelPackage(name=model, runtime=runtime),
            manifest=manifest(model, content),
            digest=f"{model}:{content}",
            source="test",
        )
        return self.applied(event).version

    def deploy(self, spec: DeploymentSpec, name: str = "d") -> Applied:
        return self.applied(DeploymentApplied(actor=ACTOR, name=name, spec=spec))

    def schedule(self, cluster: str, scheduling: Scheduling) -> None:
        event = ClusterSchedulingChanged(actor=ACTOR, name=cluster, scheduling=scheduling)
        self.do(event)

    def remove(self, kind: str, name: str) -> None:
        self.do(ObjectRemoved(actor=ACTOR, kind=kind, name=name))

    # ------------------------------------------------------------ agents

    def connect(self, name: str, *, secret: str = "credential", instance: str = "i1") -> Welcomed:
        result = self.do(
            AgentConnected(
                cluster=name,
                instance=instance,
                secret_sha256=f"{secret} of {name}",
                new_credential_sha256=f"credential of {name}",
                engine=self.engines.get(name, EngineKind.TRITON),
                url=f"http://{name}:7500",
            )
        )
        assert isinstance(result, Welcomed)
        return result

    def disconnect(self, name: str) -> None:
        self.do(AgentDisconnected(cluster=name, epoch=self.state.presences[name].epoch))

    def make_report(
        self, name: str, versions: Sequence[ObservedVersion] = (), *, generation: int | None = None
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
            url=f"http://{name}:7500",
        )

    def report(
        self, name: str, versions: Sequence[ObservedVersion] = (), *, generation: int | None = None
    ) -> bool:
        report = self.make_report(name, versions, generation=generation)
        return self.do(AgentReported(report=report)) is True

    def seen(
        self, name: str, state: VersionState = VersionState.WARMED, *, only: int | None = None
    ) -> list[ObservedVersion]:
        """All assigned versions of a cluster (or one of them) in the given state."""
        return [
            ObservedVersion(model=v.model, version=v.version, digest=v.digest, state=state)
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

    def told(self) -> list[str]:
        """The reasons of all events that were written down, oldest first."""
        return [record.reason for record in self.state.audit.values()]
