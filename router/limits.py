"""What one client may cost this router: connections, time, memory.

Input: the settings, and the number of sockets that the system grants this process. Output: the
limits of the public server and of its requests.
"""

from federation.relay.connections import ConnectionLimits, raise_file_limit
from federation.relay.server import BodyLimits, ServerLimits
from router.request.call import HoldingLimits, ProxyLimits
from router.settings import Settings

GRACE_S = 10.0


def public_limits(settings: Settings) -> ServerLimits:
    """Return the limits for connections; lets this process open as many files as they need.

    Where the system grants fewer, a third of them stays free for the way to the clusters.
    """
    sockets = raise_file_limit(settings.max_connections + settings.max_concurrent)
    return ServerLimits(
        shutdown_s=GRACE_S,
        keepalive_s=settings.client_idle_ms / 1000,
        connections=ConnectionLimits(
            total=min(settings.max_connections, max(sockets * 2 // 3, 1)),
            per_address=settings.max_connections_per_address,
            exempt=settings.trusted_proxies,
            closing_s=settings.client_stall_ms / 1000,
        ),
    )


def holding_limits(settings: Settings) -> HoldingLimits:
    """Return the limits for requests that wait for a model that sleeps: at most half of all places,
    so that models which don't sleep are served meanwhile."""
    return HoldingLimits(
        per_model=settings.hold_requests_per_model,
        total=min(settings.hold_requests, max(settings.max_concurrent // 2, 1)),
        body_bytes=settings.hold_memory_bytes,
        hold_s=settings.hold_ms / 1000,
    )


def proxy_limits(settings: Settings) -> ProxyLimits:
    """Return the limits for one request."""
    return ProxyLimits(
        body=BodyLimits(max_bytes=settings.max_body_bytes, total_s=settings.client_body_ms / 1000),
        replay_bytes=min(settings.replay_buffer_bytes, settings.max_body_bytes),
        deadline_s=settings.deadline_ms / 1000,
        stall_s=settings.client_stall_ms / 1000,
        grpc_bytes=settings.grpc_memory_bytes,
        holding=holding_limits(settings),
    )
