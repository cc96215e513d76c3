"""What goes wrong in a simulation, and what people do meanwhile.

Input: a World. Output: the same, after a run: chaos for a while, then peace until nothing goes on.
"""

from federation.contract.resources import RegionSpec
from federation.contract.rollout import FreezeWindow, RolloutSpec
from federation.policy.events import (
    AgentDisconnected,
    DeploymentApplied,
    RegionApplied,
    RouterDisconnected,
)
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, RolloutUndone, Verb
from federation.policy.rollouts.records import Pause, Phase
from tests.simulation.scenario import AT, MODEL, PLACES
from tests.simulation.world import World

CHAOS_S, PATIENCE_S = 200.0, 3_000.0
LONG_S = 20.0  # a tick while a region is lost for hours; shorter than a lease


def run(world: World, *, version: int = 2) -> None:
    """Roll out a version under chaos; then peace, until nothing goes on."""
    settle_in(world)
    assert start(world, version), "it cannot begin"
    chaotic(world, CHAOS_S)
    come_to_rest(world)


def settle_in(world: World) -> None:
    """Let version 1 come up everywhere, on a good network."""
    world.quiet = True
    for _ in range(60):
        world.tick()
        if world.is_up(1) and world.now_s >= 20.0 * world.scenario.judged:
            break
    else:
        raise AssertionError("version 1 did not come up")
    world.quiet = False


def chaotic(world: World, until_s: float) -> None:
    """Let all go wrong that can."""
    long_s = world.scenario.lost_s
    from_s = world.now_s + world.dice.uniform(0.0, 120.0)
    while world.now_s < until_s:
        world.tick()
        _chaos(world)
        if long_s and world.now_s >= from_s:
            _lose_for_long(world, long_s)
            long_s = 0.0


def come_to_rest(world: World) -> None:
    """Peace, but for what is lost for hours; then until nothing goes on, and a little longer."""
    lost = {n: at for n, at in world.cut_until.items() if at > world.now_s + 600.0}
    world.cut_until, world.dark_until = lost, {}
    if lost:
        lasts_s = LONG_S / 2 if world.scenario.judged else LONG_S
        while world.now_s < max(lost.values()):
            world.tick(lasts_s)
            let_go_on(world)
            if world.scenario.people and world.dice.random() < 0.003:
                intervene(world)
        world.checks.returned(set(lost))
    ends_s = world.now_s + PATIENCE_S
    while world.plane.state.going:
        assert world.now_s < ends_s, "a rollout never ends"
        world.tick()
        let_go_on(world)
    world.quiet, left = True, 100
    while left and not (left < 90 and world.checks.is_at_rest()):
        world.tick(2.0)
        left -= 1
    world.checks.at_the_end()
    world.served.at_the_end()


def let_go_on(world: World) -> None:
    """People do what they are asked for."""
    for record in list(world.plane.state.rollouts.values()):
        if record.phase is not Phase.PAUSED:
            continue
        verb = Verb.APPROVE if record.pause is Pause.GATE else Verb.RESUME
        world.plane.do(RolloutSteered(actor="eve", name=record.meta.name, verb=verb))


# ------------------------------------------------------------ what goes wrong


def _chaos(world: World) -> None:
    dice, chances = world.dice, world.chances
    for agent in world.agents.values():
        if dice.random() < chances.agent_restart:
            world.say(f"agent {agent.name} restarts")
            world.note("an agent restarts")
            agent.start(world.now_s)
    for router in world.routers.values():
        if dice.random() < chances.router_restart:
            world.say(f"router {router.name} restarts")
            world.note("a router restarts")
            _router_gone(world, router.name)
            router.start()
        if dice.random() < chances.router_lost:
            lasts_s = dice.choice((5.0, 30.0, 90.0))
            world.say(f"router {router.name} is out of contact for {lasts_s:g} s")
            router.lost_until = world.now_s + lasts_s
            _router_gone(world, router.name)
            router.connected = False
    if dice.random() < chances.plane_crash:
        world.restart_plane()
    if dice.random() < chances.region_lost:
        region, lasts_s = dice.choice(world.scenario.residency), dice.choice((5.0, 20.0, 90.0))
        lose(world, _in(region), lasts_s)
    if world.scenario.people and dice.random() < chances.person:
        intervene(world)


def _router_gone(world: World, name: str) -> None:
    router = world.routers[name]
    world.plane.do(RouterDisconnected(name=name, instance=router.instance))


def _in(region: str) -> list[str]:
    return [name for name, place in PLACES.items() if place == region]


def _lose_for_long(world: World, lasts_s: float) -> None:
    """Lose a region, or one cluster of it, for hours."""
    clusters = _in(world.dice.choice(world.scenario.residency))
    if world.dice.random() < 0.5:
        clusters = clusters[:1]
    lose(world, clusters, lasts_s)


def lose(world: World, clusters: list[str], lasts_s: float) -> None:
    """Cut clusters off from the control plane, perhaps from routers as well."""
    dice, until_s = world.dice, world.now_s + lasts_s
    dark = dice.random() < world.chances.dark
    words = ", also for routers" if dark else ""
    world.say(f"{', '.join(clusters)} out of contact for {lasts_s:g} s{words}")
    world.note("a region is lost for hours" if lasts_s > 600.0 else "a region is lost")
    for name in clusters:
        world.cut_until[name] = max(until_s, world.cut_until.get(name, 0.0))
        if dark:
            world.dark_until[name] = until_s
        if dice.random() < 0.5:  # else nobody knows before the lease ends
            world.agents[name].cut(world.now_s)
            epoch = world.plane.state.presences[name].epoch
            world.plane.do(AgentDisconnected(cluster=name, epoch=epoch))


# ------------------------------------------------------------ people


def intervene(world: World) -> None:
    """Somebody does something."""
    dice, what, plane = world.dice, world.dice.randrange(13), world.plane
    if what < 5:
        verb = list(Verb)[what]
        full = dice.random() < 0.3
        world.say(f"{verb}{' --full' if full else ''}")
        world.note(str(verb))
        plane.do(RolloutSteered(actor="eve", name=MODEL, verb=verb, full=full))
    elif what <= 6:
        undo(world, dice.choice((0, 0, 1, 2)))
    elif what == 7:
        freeze(world, dice.choice(world.scenario.residency), minutes=dice.choice((0, 3, 5)))
    elif what == 8:
        strategy = dice.choice((None, world.strategy()))
        version = dice.choice((1, 2, 3) if strategy else (1, 2))  # 3 cannot serve
        everywhere = strategy is None and not world.scenario.tight  # there is no room for it
        wish(world, version, everywhere=everywhere)
    else:
        start(world, dice.choice((1, 2, 3)))


def undo(world: World, version: int = 0) -> bool:
    """Somebody wants the version before, or another one."""
    world.note("undo")
    done = world.plane.do(RolloutUndone(actor="eve", model=MODEL, version=version)) is not None
    world.say(f"undo to {version}: {'accepted' if done else 'refused'}")
    return done


def wish(world: World, version: int, *, everywhere: bool) -> None:
    """Somebody changes the deployment."""
    spec = world.scenario.wish(version, None if everywhere else world.strategy())
    world.say(f"wish {version}{' everywhere at once' if everywhere else ''}")
    world.note("another wish")
    world.plane.do(DeploymentApplied(actor="eve", name="d", spec=spec))


def freeze(world: World, region: str, *, minutes: int) -> None:
    """Somebody freezes a region."""
    world.say(f"{region} is frozen for the first {minutes} minutes of the day")
    window = FreezeWindow(start="00:00", end=f"00:0{minutes}")
    spec = RegionSpec(location=AT[region], freeze=(window,) if minutes else ())
    world.plane.do(RegionApplied(actor="eve", name=region, spec=spec))


def start(world: World, version: int) -> bool:
    """Somebody starts a rollout; returns whether it was accepted."""
    spec = RolloutSpec(model=MODEL, version=version, strategy=world.strategy())
    world.note("another rollout")
    done = world.plane.do(RolloutApplied(actor="ada", name="", spec=spec)) is not None
    done = done or world.plane.dead  # it was stored
    world.say(f"start {version}: {'accepted' if done else 'refused'}")
    return done
