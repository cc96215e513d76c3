"""The live side of routers: who is connected, what they serve, how they see the clusters.

Input: events from the routers' streams. Output: presences in memory, where agents find them, and
news for watchers. Of two processes with one name the newer one counts.
"""

from dataclasses import replace

from federation.contract.spiffe import PeerRole
from federation.policy import lookup
from federation.policy.events import (
    RouterAnswered,
    RouterConnected,
    RouterDisconnected,
    RouterReported,
)
from federation.policy.membership.events import PublishRouters
from federation.policy.membership.members import check_member
from federation.policy.records import RouterPresence
from federation.policy.rollouts import evidence
from federation.policy.rollouts.events import RouterCounted
from federation.policy.rollouts.ongoing import look_for, waits_for_routers
from federation.policy.settle import settle_later
from federation.policy.sleeping import wake_for
from federation.policy.state import Step


def router_connected(step: Step, event: RouterConnected) -> bool:
    """Admit a router by its certificate, and remember it."""
    record = lookup.find("Router", step.state.registered_routers, event.name)
    check_member(record.membership, PeerRole.ROUTER, event.name, event.generation)
    if record.reverse_address != event.reverse_address:
        meta = step.next_meta(record.meta)
        step.put("Router", replace(record, meta=meta, reverse_address=event.reverse_address))
        step.emit(PublishRouters())
    seen = step.state.routers.get(event.name)
    new = step.state.routers[event.name] = RouterPresence(
        name=event.name,
        instance=event.instance,
        url=event.url,
        location=event.location,
        software_version=event.software_version,
        connected_at=step.now,
        generation=event.generation,
        reverse_address=event.reverse_address,
        snapshot_version=event.snapshot_version,
        allow_anonymous=event.allow_anonymous,
    )
    if seen is None or (seen.connected, seen.url, seen.location) != (True, new.url, new.location):
        step.publish()  # routers know each other
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
        look_for(step, {m for m in step.state.going if waits_for_routers(step.state, m)})
    step.state.routers[event.name] = new
    step.touch("Router", event.name)
    return True


def router_reported(step: Step, event: RouterReported) -> bool:
    """Take over how a router sees the clusters, and wake what requests wait for there; watchers
    hear of changes of health only."""
    router = _current(step, event.name, event.instance)
    if router is None:
        return False
    step.state.routers[event.name] = replace(
        router,
        requests_total=event.requests_total,
        errors_total=event.errors_total,
        clusters=dict(event.clusters),
        held=dict(event.held),
    )
    if woken := wake_for(step, event.name, event.held):
        settle_later(step, woken)
    before = {name: seen.healthy for name, seen in router.clusters.items()}
    if before != {name: seen.healthy for name, seen in event.clusters.items()}:
        step.touch("Router", event.name)
    return True


def router_counted(step: Step, event: RouterCounted) -> bool:
    """Take what a router counted; it is judged with this batch of events or a later one."""
    if _current(step, event.name, event.instance) is None:
        return False
    evidence.take(step, event)
    return True


def router_disconnected(step: Step, event: RouterDisconnected) -> bool:
    """Note that a router's stream ended; it keeps serving what it has."""
    router = _current(step, event.name, event.instance)
    if router is None or not router.connected:
        return False
    step.state.routers[event.name] = replace(router, connected=False)
    step.publish()
    step.touch("Router", event.name)
    message = f"router {event.name!r} is out of contact; it keeps serving what it has."
    step.audit("Router", event.name, "RouterDisconnected", message)
    return True


def _current(step: Step, name: str, instance: str) -> RouterPresence | None:
    router = step.state.routers.get(name)
    return router if router and router.instance == instance else None
