"""How a router stands, for people: member or not, connected or not, what it serves and sees.

Input: a State and a RouterRecord. Output: the status of its document. A registered router is shown
also while it is not connected.
"""

from federation.policy.cluster_view import membership_status
from federation.policy.membership.records import RouterRecord
from federation.policy.plain import Json, moment, plain
from federation.policy.state import State


def router_status(state: State, record: RouterRecord) -> Json:
    """Return the status of a router's document."""
    seen = state.routers.get(record.meta.name)
    return {
        **membership_status(record),
        "reverse_address": record.reverse_address,
        "allow_anonymous": seen is not None and seen.allow_anonymous,
        "connected": seen is not None and seen.connected,
        "connected_at": moment(seen.connected_at) if seen else None,
        "instance": seen.instance if seen else "",
        "software_version": seen.software_version if seen else "",
        "url": seen.url if seen else "",
        "location": plain(seen.location) if seen else None,
        "snapshot_version": seen.snapshot_version if seen else 0,
        "rejection": seen.rejection if seen else "",
        "requests_total": seen.requests_total if seen else 0,
        "errors_total": seen.errors_total if seen else 0,
        "clusters": plain(seen.clusters) if seen else {},
        "held": dict(seen.held) if seen else {},
    }
