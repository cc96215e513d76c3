"""What HTTP and gRPC share at a gateway."""

import pytest

from edge_agent.backends.base import Verb
from edge_agent.gateway.relay import Refusal
from federation.contract.types import ModelProtocol
from tests.contract.reversed_rig import Site
from tests.pki import make_authority


async def test_the_desk_admits_as_http_does(tmp_path: object) -> None:
    site = Site(make_authority(tmp_path))  # type: ignore[arg-type]
    site._application()
    assert site.gateway is not None
    desk = site.gateway.desk()
    assert desk.admit(Verb.INFER, ("m", 1)) is ModelProtocol.TENSOR
    with pytest.raises(Refusal):
        desk.admit(Verb.INFER, ("m", 2))
    with desk.flights.enter(("m", 1)):
        assert site.gateway.in_flight("m", 1) == 1
    site.gateway.begin_drain()
    with pytest.raises(Refusal) as refusal:
        desk.admit(Verb.INFER, ("m", 1))
    assert refusal.value.headers == {"x-fed-refused": "draining"}
