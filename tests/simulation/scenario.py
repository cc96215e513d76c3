"""What a simulated rollout is about: drawn from a seed, apart from the dice of the run itself.

Input: a seed. Output: a Scenario: where the model may be, how it is rolled out, what goes wrong.
"""

import random
from dataclasses import dataclass, field

from federation.contract.capacity import Resources
from federation.contract.resources import DeploymentSpec
from federation.contract.rollout import AnalysisSpec, OnInconclusive, RolloutStrategy, Wave
from federation.contract.types import Location

MODEL = "m"
PLACES = {"eu1": "eu", "eu2": "eu", "us1": "us", "us2": "us", "ap1": "ap", "cn1": "cn"}
AT = {
    "eu": Location(latitude=50.0, longitude=8.0),
    "us": Location(latitude=40.0, longitude=-80.0),
    "ap": Location(latitude=1.0, longitude=104.0),
    "cn": Location(latitude=30.0, longitude=110.0),
}
TOLD = ("fails", "crashes at once", "crashes later", "wrong")  # agents find these out
COUNTED = ("errs", "slow")  # and these are found out by what routers count
BAD = (*TOLD, *COUNTED)


@dataclass(slots=True)
class Chances:
    """What happens in a second, and how often."""

    lost: float = 0.1
    doubled: float = 0.1
    slowest_s: float = 3.0
    agent_restart: float = 0.004
    router_restart: float = 0.004
    router_lost: float = 0.002
    plane_crash: float = 0.006
    killed_at_turn: float = 0.05  # at each transition, after it was stored, before it was told
    region_lost: float = 0.004
    dark: float = 0.3  # of these, where routers do not reach it either
    person: float = 0.05


@dataclass(slots=True)
class Scenario:
    """`judged`: by traffic. `tight`: a cluster has room for one version only, so rollouts go in
    place. `lost_s`: one region, or one cluster of it, is out of contact for so long."""

    seed: int
    people: bool = True
    fault: str = ""
    judged: bool = False
    chances: Chances = field(default_factory=Chances)
    tight: bool = field(init=False)
    residency: tuple[str, ...] = field(init=False)
    by_residency: bool = field(init=False)  # nothing but the residency keeps it inside
    lost_s: float = field(init=False)
    through_json: bool = field(init=False)

    def __post_init__(self) -> None:
        dice = random.Random(f"scenario {self.seed}")
        # In place there may be nothing left in a region to compare a canary with.
        self.tight = dice.random() < 0.2 and self.fault not in COUNTED
        inside = ("eu", "us", "ap")
        self.residency = dice.choice((inside, inside, inside, ("eu", "us"), ("eu",)))
        self.by_residency = dice.random() < 0.5
        self.lost_s = dice.choice((3600.0, 3600.0, 10800.0)) if dice.random() < 0.15 else 0.0
        self.through_json = dice.random() < 0.1

    @property
    def inside(self) -> tuple[str, ...]:
        """The clusters that may have the model."""
        return tuple(name for name, region in PLACES.items() if region in self.residency)

    @property
    def needs(self) -> Resources:
        """What a replica of each version needs; a cluster has one unit where it is tight."""
        return Resources(gpus=1)

    def wish(self, version: int, strategy: RolloutStrategy | None = None) -> DeploymentSpec:
        """Return the deployment."""
        return DeploymentSpec(
            model=MODEL,
            version=version,
            regions=() if self.by_residency else self.residency,
            residency=self.residency,
            rollout=strategy,
        )

    def waves(self, dice: random.Random) -> tuple[Wave, ...]:
        """Return some waves."""
        approval = dice.random() < 0.3
        rest = Wave(regions=("*",), approval=approval)
        choices: list[tuple[Wave, ...]] = [(), (Wave(clusters=("eu1",)), rest)]
        if "us" in self.residency:
            choices += [
                (Wave(regions=("eu",)), rest),
                (Wave(regions=("eu",), approval=approval), Wave(regions=("us",)), rest),
                (Wave(clusters=("eu1",)), Wave(clusters=("eu2", "us1"), approval=approval), rest),
            ]
        if "ap" in self.residency:
            choices.append((Wave(regions=("ap",)), Wave(regions=("eu", "us"), approval=approval)))
        return dice.choice(choices)

    def strategy(self, dice: random.Random) -> RolloutStrategy:
        """Return some way to roll out."""
        waves = self.waves(dice)
        if self.judged:
            steps: tuple[float, ...] = dice.choice(((20.0, 100.0), (10.0, 50.0, 100.0)))
            bake_s, analysis = 20.0, AnalysisSpec(max_bake_s=120.0, on_inconclusive=self._unsure)
        else:
            steps = dice.choice(((100.0,), (5.0, 100.0), (10.0, 50.0, 100.0)))
            bake_s = 20.0 if self.fault == "crashes later" else dice.choice((0.0, 3.0, 20.0))
            enabled = self.fault == "wrong" or dice.random() < 0.3
            analysis = AnalysisSpec(
                enabled=enabled, max_bake_s=25.0, on_inconclusive=OnInconclusive.PROMOTE
            )
        return RolloutStrategy(
            waves=waves, steps=steps, bake_s=bake_s, analysis=analysis, in_place=self.tight
        )

    @property
    def _unsure(self) -> OnInconclusive:
        """A bad version is not promoted for want of requests; a good one must not wait for ever."""
        return OnInconclusive.PAUSE if self.fault in COUNTED else OnInconclusive.PROMOTE
