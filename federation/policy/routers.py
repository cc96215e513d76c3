"""Routers: who is connected, what they serve, and how they see the clusters.

Input: events from the routers' streams. Output: presences in memory, and news for watchers. A
router is known by its name; a newer process of that name replaces the older one.
"""

from dataclasses import replace

from federation.policy.events import (
    RouterAnswered,
    RouterConnected,
    RouterDisconnected,
    RouterReported,
)
from federation.policy.records import RouterPresence
from federation.policy.state import Step

KEPT = 1_000  # routers that are remembered; the longest gone are forgotten first


def router_connected(step: Step, event: RouterConnected) -> bool:
    """Remember a router."""
    routers = step.state.routers
    routers.pop(event.name, None)
    routers[event.name] = RouterPresence(
        name=event.name,
        instance=event.instance,
        url=event.url,
        location=event.location,
        software_version=event.software_version,
        connected_at=step.now,
        snapshot_version=event.snapshot_version,
    )
    gone = [name for name, router in routers.items() if not router.connected]
    for name in gone[: max(0, len(routers) - KEPT)]:
        del routers[name]
    step.touch("Router", event.name)
    message = f"router {event.name!r} connected from {event.url or 'an unknown address'}."
    step.audit("Router", event.name, "RouterConnected", message)
    return True


def router_answered(step: Step, event: RouterAnswered) -> bool:
    """Note which snapshot a router serves, or why it refused one."""
    router = _current(step, event.name, event.instance)
    if router is None:
        return False
    if event.rejection:
        new = replace(router, rejection=event.rejection)
        message = f"router {event.name!r} refused snapshot {event.snapshot_version}: " + (
            event.rejection
        )
        step.audit("Router", event.name, "SnapshotRefused", message)
    else:
        new = replace(router, rejection="", snapshot_version=event.snapshot_version)
    step.state.routers[event.name] = new
    step.touch("Router", event.name)
    return True


def router_reported(step: Step, event: RouterReported) -> bool:
    """Take over how a router sees the clusters; watchers hear of changes of health only."""
    router = _current(step, event.name, event.instance)
    if router is None:
        return False
    step.state.routers[event.name] = replace(
        router,
        requests_total=event.requests_total,
        errors_total=event.errors_total,
        clusters=dict(event.clusters),
    )
    before = {name: seen.healthy for name, seen in router.clusters.items()}
    if before != {name: seen.healthy for name, seen in event.clusters.items()}:
        step.touch("Router", event.name)
    return True


def router_disconnected(step: Step, event: RouterDisconnected) -> bool:
    """Note that a router's stream ended; it keeps serving what it has."""
    router = _current(step, event.name, event.instance)
    if router is None or not router.connected:
        return False
    step.state.routers[event.name] = replace(router, connected=False)
    step.touch("Router", event.name)
    message = f"router {event.name!r} is out of contact; it keeps serving what it has."
    step.audit("Router", event.name, "RouterDisconnected", message)
    return True


def _current(step: Step, name: str, instance: str) -> RouterPresence | None:
    router = step.state.routers.get(name)
    return router if router and router.instance == instance else None
