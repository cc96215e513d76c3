"""What the HTTP side and the gRPC side of a gateway have in common.

Input: a request that a router sent. Output: whether it may be served now, and the counts that it
belongs to. `Gateway.desk` makes one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.backends.base import Verb
from edge_agent.gateway.flights import Flights, Key
from edge_agent.gateway.metrics import GatewayMetrics
from federation.contract.types import ModelProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """`admit` returns how a version is spoken to, or raises Refusal; `doubt` takes model, version
    and the reason why its engine seems not to be well."""

    admit: Callable[[Verb, Key], ModelProtocol]
    doubt: Callable[[str, int, str], None]
    flights: Flights
    metrics: GatewayMetrics
