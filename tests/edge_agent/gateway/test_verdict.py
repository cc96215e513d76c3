import pytest

from edge_agent.gateway.verdict import (
    DIED,
    FAULTY,
    ITS_OWN,
    LOST,
    SATURATED,
    SICK,
    UNREADABLE,
    Verdict,
    judge,
)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, b"""{"error":"Request for unknown model: 'm' is not found"}""", LOST),
        (404, b"""{"error":"Request for unknown model: 'm' has no available versions"}""", LOST),
        (503, b"""{"error":"Request for unknown model: 'm' version 1 is not at ready"}""", LOST),
        (404, b"Path '/m/infer' not found. Ping http://.../-/routes for more.", LOST),
        (503, b"Deployment(name='M', app='m') is unavailable because it failed.", LOST),
        (500, b"""{"error":"Failed to process the request(s) for model instance 'm--v1_0', """
              b"""message: Stub process 'm--v1_0_0' is not healthy."}""", SICK),
        (500, b"""{"error":"Stub process 'm--v1_0_0' is not healthy."}""", SICK),
        (500, b"Internal Server Error", DIED),
        (500, b"""{"error":"failed to parse the request JSON buffer: Missing a comma at 26"}""",
         UNREADABLE),
        (500, b"""{"error":"Unable to parse 'data': Shape does not match"}""", UNREADABLE),
        (503, b"""{"error":"[request id: x] Exceeds maximum queue size"}""", SATURATED),
        (503, b"Request dropped due to backpressure (num_queued_requests=1).", SATURATED),
        (400, b"""{"error":"unexpected shape for input 'x'"}""", ITS_OWN),
        (400, b"""data: {"error":"the model failed: RuntimeError: out of memory"}\n\n""", FAULTY),
        (400, b"""data: {"error":"the seed must be a number"}\n\n""", ITS_OWN),
        (500, b"""{"error":"ValueError: bad"}""", ITS_OWN),
        (404, b"""{"error":"nothing here"}""", ITS_OWN),
        (500, b"", ITS_OWN),
    ],
)  # fmt: skip
def test_an_engines_error_is_understood(status: int, body: bytes, verdict: Verdict) -> None:
    assert judge(status, body) == verdict


@pytest.mark.parametrize(
    "echoed",
    [
        b"""{"error":"ValueError: Request for unknown model: 'm' is not found"}""",
        b"""{"error":"Failed to process the request(s) for model instance 'm', message: """
        b"""ValueError: Stub process 'x' is not healthy"}""",
        b"""{"error":"the model failed: Exceeds maximum queue size"}""",
        b"Sorry: Internal Server Error",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_model_that_repeats_its_input_cannot_raise_a_doubt(status: int, echoed: bytes) -> None:
    assert judge(status, echoed) in (ITS_OWN, FAULTY)


def test_a_refusal_always_means_that_nothing_ran() -> None:
    for verdict in (LOST, SATURATED):
        assert verdict.refused
        assert not verdict.unknown
    assert SICK.unknown
    assert not SICK.refused
