"""Where a request may be served at all: a guarantee, not a preference.

Input: the model's route, the regions of the caller's tenant, and endpoints. Output: the endpoints
inside both. `table.build` indexes only those inside the model's, and `RoutingTable.replicas` gives
out only those inside the tenant's as well: what is not given out cannot be picked, not by a retry,
not in an outage, not from stale state. An empty set of regions means anywhere.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from federation.contract.errors import PermissionDenied
from federation.contract.types import Endpoint, ModelRoute


def permits(route: ModelRoute, endpoint: Endpoint) -> bool:
    """Return whether requests for the model may be served at this endpoint."""
    return inside(route.residency, endpoint)


def permitted(route: ModelRoute, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints that lie inside the model's residency, in their order."""
    if not route.residency:
        return tuple(endpoints)
    return tuple(endpoint for endpoint in endpoints if permits(route, endpoint))


class Placed(Protocol):
    """Something in a region."""

    @property
    def region(self) -> str:
        """Return the region's name."""
        ...


def inside(regions: Collection[str], placed: Placed) -> bool:
    """Return whether requests that must stay in these regions may be served there."""
    return not regions or placed.region in regions


def check(route: ModelRoute, regions: Collection[str]) -> None:
    """Raise PermissionDenied if no region suits both the model and the caller's tenant."""
    if regions and route.residency and not set(regions) & set(route.residency):
        raise PermissionDenied(
            f"Model {route.name!r} is served in {', '.join(route.residency)} only, and requests "
            f"with this key in {', '.join(sorted(regions))} only.",
            hint="Use a key of a tenant that may be served there.",
            reason="residency",
        )


def assure(route: ModelRoute, regions: Collection[str], placed: Placed) -> None:
    """Raise PermissionDenied if a request is about to leave where it must stay.

    It never is: this is the last look before anything is sent.
    """
    if not inside(regions, placed) or not inside(route.residency, placed):
        raise PermissionDenied(
            f"Requests like this one may not be served in {placed.region}.", reason="residency"
        )
