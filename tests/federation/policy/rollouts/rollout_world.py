"""A small federation in which rollouts go on: says in one line what events say in ten.

Input: what a test wants to happen. Output: records of rollouts. Routers take each snapshot at once
unless `slow_routers`.
"""

from dataclasses import replace

from federation.contract.resources import DeploymentSpec
from federation.contract.rollout import AnalysisSpec, RolloutSpec, RolloutStrategy, Wave
from federation.contract.types import ObservedVersion, VersionState
from federation.policy import snapshot
from federation.policy.events import Event, PublishSnapshot, Result, RouterAnswered
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, RolloutUndone, Verb
from federation.policy.rollouts.records import Phase, RolloutRecord
from tests.federation.policy.world import ACTOR, World

CLUSTERS = {"a": "eu", "b": "us", "c": "us", "d": "ap"}
WAVES = (Wave(regions=("eu",)), Wave(regions=("us",)), Wave(regions=("*",)))
PLAIN = RolloutStrategy(
    waves=WAVES, steps=(5.0, 100.0), bake_s=30.0, analysis=AnalysisSpec(enabled=False)
)


class RolloutWorld(World):
    slow_routers = False

    def do(self, event: Event) -> Result:
        known = len(self.commands)
        result = super().do(event)
        if any(isinstance(c, PublishSnapshot) for c in self.commands[known:]):
            self._publish()
        return result

    def _publish(self) -> None:
        version, _ = self.state.published
        new = snapshot.build(self.state, version + 1)
        if not snapshot.same_content(new, getattr(self, "newest", snapshot.build(self.state, 0))):
            version += 1
        self.newest = new
        self.state.published = (version, self.state.revision)

    def begin(self, clusters: dict[str, str] | None = None, *, gpus: int = 0) -> "RolloutWorld":
        """Clusters that serve version 1 of model m; versions 2 and 3 are pushed."""
        for name, region in (clusters or CLUSTERS).items():
            self.cluster(name, region, gpus=gpus)
        for content in "123":
            self.push("m", content)
        self.deploy(DeploymentSpec(model="m", version=1))
        self.router()
        self.serve_all()
        return self

    def serve_all(self) -> None:
        for name in self.state.clusters:
            if self.state.presences[name].connected:
                self.serve(name)

    def silence(self, cluster: str) -> None:
        """Nothing is heard of a cluster for longer than its lease."""
        self.disconnect(cluster)
        for _ in range(3):
            self.turn(5)
        assert not self.state.presences[cluster].present

    def start(
        self, version: int | str = 2, strategy: RolloutStrategy = PLAIN, name: str = ""
    ) -> RolloutRecord:
        spec = RolloutSpec(model="m", version=version, strategy=strategy)
        return self.rollout(
            self.applied(RolloutApplied(actor=ACTOR, name=name, spec=spec, why="a test")).name
        )

    def steer(self, verb: Verb, *, full: bool = False) -> RolloutRecord:
        event = RolloutSteered(actor=ACTOR, name="m", verb=verb, full=full)
        return self.rollout(self.applied(event).name)

    def undo(self, version: int = 0) -> RolloutRecord:
        event = RolloutUndone(actor=ACTOR, model="m", version=version)
        return self.rollout(self.applied(event).name)

    def rollout(self, name: str) -> RolloutRecord:
        return self.state.rollouts[name]

    @property
    def last(self) -> RolloutRecord:
        return next(reversed(self.state.rollouts.values()))

    def ack(self) -> None:
        for name, router in list(self.state.routers.items()):
            version, _ = self.state.published
            if router.snapshot_version < version:
                event = RouterAnswered(
                    name=name, instance=router.instance, snapshot_version=version
                )
                self.do(event)

    def turn(self, seconds: float = 5.0) -> None:
        """Agents do what they were told, routers take the snapshot, time passes."""
        self.serve_all()
        if not self.slow_routers:
            self.ack()
        self.advance(seconds)

    def until(
        self, *phases: Phase, wave: int | None = None, step: int | None = None
    ) -> RolloutRecord:
        """Go on until the newest rollout is there."""
        for _ in range(300):
            found = self.last
            there = wave in (None, found.wave) and step in (None, found.step)
            if found.phase in phases and there:
                return found
            self.turn()
        raise AssertionError(f"it never gets there: {self.last.phase} {self.last.reason}")

    def fail(self, cluster: str, version: int, reason: str = "opset 99") -> None:
        """The agent of a cluster tells that a version failed."""
        seen = self.seen(cluster)
        self.report(
            cluster,
            [
                replace(v, state=VersionState.FAILED, reason=reason) if v.version == version else v
                for v in seen
            ],
        )

    def tell(self, cluster: str, **changes: object) -> None:
        """The agent of a cluster tells all versions as warm, with changes to version 2."""
        seen: list[ObservedVersion] = [
            replace(v, **changes) if v.version == 2 else v  # type: ignore[arg-type]
            for v in self.seen(cluster)
        ]
        self.report(cluster, seen)

    def target(self) -> int:
        return self.state.deployments["d"].target

    def weights(self) -> dict[str, float]:
        (route,) = self.snapshot().models
        return dict(route.canary.weights) if route.canary else {}
