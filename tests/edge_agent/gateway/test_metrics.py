import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_agent.backends.base import Verb
from edge_agent.gateway.flights import Flights
from edge_agent.gateway.metrics import GatewayMetrics
from federation.relay.http1.messages import Response


async def test_an_answered_request_is_counted_and_timed() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry, Flights())
    with metrics.request(Verb.INFER) as outcome:
        outcome.version = ("m", 2)
        outcome.response(Response(status=503, headers={"x-fed-refused": "saturated"}))
    page = generate_latest(registry).decode()
    labels = 'code="503",model="m",verb="infer",version="2"'
    assert f"fed_gateway_requests_total{{{labels}}} 1.0" in page
    assert 'fed_gateway_refused_total{reason="saturated"} 1.0' in page
    assert 'fed_gateway_request_duration_seconds_count{model="m",verb="infer"} 1.0' in page


async def test_a_client_that_went_away_is_counted_as_gone() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry, Flights())
    with pytest.raises(ConnectionError), metrics.request(Verb.CHAT):
        raise ConnectionError
    assert 'code="gone",model="",verb="chat",version=""' in generate_latest(registry).decode()


async def test_two_gateways_live_in_one_process() -> None:
    for _ in range(2):
        GatewayMetrics(CollectorRegistry(), Flights())


async def test_only_what_the_engine_ran_counts_for_rate_and_latency() -> None:
    metrics, now = GatewayMetrics(CollectorRegistry(), Flights()), asyncio.get_running_loop().time
    for verb, refused in ((Verb.INFER, ""), (Verb.READY, ""), (Verb.INFER, "saturated")):
        with metrics.request(verb) as outcome:
            outcome.version = ("m", 2)
            headers = {"x-fed-refused": refused} if refused else {}
            outcome.response(Response(headers=headers))
    figures = metrics.recent.figures(("m", 2), now())
    assert 1 / 11 <= figures.rate <= 1 / 10
    assert figures.latency_ms > 0
