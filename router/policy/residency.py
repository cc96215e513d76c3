"""Where a request may be served at all: a guarantee, not a preference.

Input: the model's route and the endpoints of a snapshot. Output: the endpoints inside its
residency. `table.build` indexes only those: what is not in the index cannot be picked, not by a
retry, not in an outage, not from stale state.
"""

from collections.abc import Iterable

from federation.contract.types import Endpoint, ModelRoute


def permits(route: ModelRoute, endpoint: Endpoint) -> bool:
    """Return whether requests for the model may be served at this endpoint."""
    return not route.residency or endpoint.region in route.residency


def permitted(route: ModelRoute, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints that lie inside the model's residency, in their order."""
    return tuple(endpoint for endpoint in endpoints if permits(route, endpoint))
