"""The kinds of simulated rollouts, and what each must end in.

Input: a seed. Output: the World after the run, or an AssertionError with the seed and the story.
"""

from collections.abc import Callable
from functools import wraps

from federation.policy.events import DeploymentApplied
from federation.policy.rollouts.events import RolloutSteered, Verb
from federation.policy.rollouts.records import Phase
from tests.simulation import trouble
from tests.simulation.checks import calm
from tests.simulation.scenario import BAD, COUNTED, MODEL, PLACES, Chances, Scenario
from tests.simulation.world import World

CAUSES = {
    "fails": ("load",),
    "crashes at once": ("crash", "load"),
    "crashes later": ("crash", "load"),
    "wrong": ("golden",),
    "errs": ("errors",),
    "slow": ("p95",),
}
PHASES = (Phase.PENDING, Phase.STAGING, Phase.PROGRESSING, Phase.BAKING, Phase.PAUSED)
WAYS = ("abort", "undo", "another rollout", "another wish")

ALPHA = 0.05  # of the rollouts that keep their limits may be aborted at most

Body = Callable[[World], None]


def told(kind: str) -> Callable[[Callable[[int], tuple[World, Body]]], Callable[[int], World]]:
    """Run a world; a failure tells the seed, and what happened."""

    def decorate(make: Callable[[int], tuple[World, Body]]) -> Callable[[int], World]:
        @wraps(make)
        def run(seed: int) -> World:
            world, body = make(seed)
            try:
                body(world)
            except AssertionError as failure:
                raise AssertionError(_story(world, kind, failure)) from failure
            return world

        return run

    return decorate


def by_traffic(world: World) -> int:
    """Return how many rollouts were judged bad by what routers counted."""
    records = world.plane.state.rollouts.values()
    bad = [r.verdicts[-1] for r in records if r.phase is Phase.ROLLED_BACK and r.verdicts]
    return sum(v.outcome == "fail" and v.metric in ("errors", "p95", "refused") for v in bad)


def _story(world: World, kind: str, failure: AssertionError) -> str:
    lines = list(world.told)
    for record in world.plane.state.rollouts.values():
        lines += [
            f"{p.at:%H:%M:%S} {record.meta.name} {p.event} {p.now} {p.reason}"
            for p in record.history
        ]
    seed, now_s = world.scenario.seed, world.now_s
    head = f"{failure} ({kind}, at {now_s:g} s; again with FED_TEST_SEED={seed})"
    return "\n".join([head, str(world.scenario), *lines])


@told("chaos")
def chaos(seed: int) -> tuple[World, Body]:
    """People do anything at any time, version 3 is bad, and all goes wrong that can."""
    world = World(Scenario(seed, judged=seed % 8 == 0))
    world.temper.spoil(MODEL, 3, BAD[seed % len(BAD)])
    return world, trouble.run


@told("good")
def good(seed: int) -> tuple[World, Body]:
    """Nobody intervenes: a good version is promoted; every fourth time it is judged by traffic.

    What routers count may convict it by chance, as seldom as the analysis says (`ALPHA`).
    """
    world = World(Scenario(seed, people=False, judged=seed % 4 == 0))

    def body(world: World) -> None:
        trouble.run(world)
        (record,) = world.plane.state.rollouts.values()
        fine = record.phase is Phase.PROMOTED or by_traffic(world)
        assert fine, f"{record.phase}: {record.reason}"

    return world, body


@told("bad")
def bad(seed: int) -> tuple[World, Body]:
    """Nobody intervenes: a bad version goes back from its first wave, and the verdict tells why."""
    fault = BAD[seed % len(BAD)]
    chances = Chances(region_lost=0.001, dark=0.0)
    scenario = Scenario(seed, people=False, fault=fault, judged=fault in COUNTED, chances=chances)
    world = World(scenario)
    world.temper.spoil(MODEL, 2, fault)

    def body(world: World) -> None:
        trouble.run(world)
        (record,) = world.plane.state.rollouts.values()
        assert record.phase is Phase.ROLLED_BACK, record.phase
        assert record.wave == 0, f"it came to wave {record.wave + 1}"
        first = set(record.waves[0].clusters)
        assert world.checks.loaded_at.get(2, set()) <= first, "it was loaded in a later wave"
        verdict = record.verdicts[-1]
        assert verdict.metric in CAUSES[fault], f"{fault} was told as {verdict}"
        here = {PLACES[name] for name in first}
        assert not {
            region
            for (version, region), count in world.served.attempts.items()
            if version == 2 and count and region not in here
        }, "a region of a later wave was served it"

    return world, body


@told("back")
def back(seed: int) -> tuple[World, Body]:
    """Somebody ends a rollout the moment it comes to a phase."""
    phase, way = PHASES[seed % len(PHASES)], WAYS[seed // len(PHASES) % len(WAYS)]
    world = World(Scenario(seed, people=False))

    def body(world: World) -> None:
        trouble.settle_in(world)
        old = world.checks.whole()
        if phase is Phase.PENDING:
            for region in world.scenario.residency:
                trouble.freeze(world, region, minutes=5)
        assert trouble.start(world, 2)
        _come_to(world, phase)
        world.note(f"{way}, asked for")
        _go_back(world, way)
        trouble.chaotic(world, world.now_s + 60.0)
        trouble.come_to_rest(world)
        if way in ("abort", "undo", "another wish"):
            first = world.plane.state.rollouts[f"{MODEL}-1"]
            if first.phase is Phase.ROLLED_BACK:
                assert world.checks.target() == 1
                for name, versions in world.checks.whole().items():
                    same = [*map(calm, versions)] == [*map(calm, old[name])]
                    assert same, f"{name} ended in another assignment"

    return world, body


def _come_to(world: World, phase: Phase) -> None:
    for _ in range(400):
        record = world.plane.state.rollouts[f"{MODEL}-1"]
        held = phase is Phase.PENDING and record.queued
        if held or record.phase is phase or record.over:
            return
        if phase is Phase.PAUSED and record.moving:
            world.plane.do(RolloutSteered(actor="eve", name=MODEL, verb=Verb.PAUSE))
        world.tick()
        if world.dice.random() < world.chances.plane_crash:
            world.restart_plane()


def _go_back(world: World, way: str) -> None:
    plane = world.plane
    match way:
        case "abort":
            plane.do(RolloutSteered(actor="eve", name=MODEL, verb=Verb.ABORT))
        case "undo":
            trouble.undo(world)
        case "another wish":
            # Once the other one serves everywhere, memory for one version takes another rollout.
            swaps = world.scenario.tight and world.moving() is None
            spec = world.scenario.wish(1, world.strategy() if swaps else None)
            plane.do(DeploymentApplied(actor="eve", name="d", spec=spec))
        case _:
            trouble.start(world, 3)
