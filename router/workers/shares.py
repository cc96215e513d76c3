"""What one of several workers may use of what the settings grant the whole router.

Input: the settings of the router, and how many workers there are. Output: those of one worker.
"""

from dataclasses import replace

from router.settings import Settings

_SHARED = (  # counts and bytes of the whole process, not of one request
    "replay_memory_bytes",
    "grpc_memory_bytes",
    "max_concurrent",
    "max_connections",
    "max_connections_per_address",
    "hold_requests",
    "hold_requests_per_model",
    "hold_memory_bytes",
    "decision_records",
)


def of_one(settings: Settings, workers: int) -> Settings:
    """Return the settings of each worker: an even share, rounded up, of whatever is shared."""
    return replace(settings, **{n: -(-getattr(settings, n) // workers) for n in _SHARED})
