"""What the HTTP side and the gRPC side of a router have in common. `Proxy.shared` makes one.

Input: the parts of a router. Output: one object, so that both sides count into the same quotas and
learn from the same attempts.
"""

from dataclasses import dataclass

from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy.admission import Admission
from router.policy.quota import Quotas
from router.request.call import ProxyLimits
from router.request.holding import Holding
from router.state import RouterState
from router.upstream.http import Upstreams


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the HTTP side and the gRPC side of a router have in common."""

    state: RouterState
    upstreams: Upstreams
    metrics: Metrics
    locator: Locator
    admission: Admission
    quotas: Quotas
    holding: Holding
    limits: ProxyLimits
