from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from router.policy import table as tables
from router.policy.decision import Question
from router.policy.pick import decide
from router.policy.signals import Signals
from tests.router.policy.worlds import Fixed


def test_the_record_shows_every_term_and_says_why() -> None:
    endpoints = tuple(Endpoint(cluster=c, region="eu", url="http://h:1") for c in ("near", "far"))
    replicas = tuple(
        Replica(model="m", version=1, cluster=c, concurrency=2, latency_ms=50.0)
        for c in ("near", "far")
    )
    models = (ModelRoute(name="m", default_version=1),)
    snapshot = Snapshot(version=1, models=models, endpoints=endpoints, replicas=replicas)
    table, signals = tables.build(snapshot), Signals()
    signals.probed("near", 10.0, "", 5.0)
    signals.probed("far", 200.0, "", 5.0)
    question = Question(resolved=table.resolve("m"), now_s=5.0)
    for _ in range(3):
        signals.begin("near", "m", 1, 5.0)
    decision = decide(table, signals, question, Fixed(0.5))
    near, far = decision.candidates()
    assert (near.rtt_ms, near.wait_ms, near.service_ms, near.score_ms) == (10.0, 100.0, 50.0, 160.0)
    assert (near.in_flight, near.concurrency) == (3.0, 2.0)
    assert (far.wait_ms, far.score_ms, far.excluded) == (0.0, 250.0, "")
    assert decision.why == (
        "near has the least expected time to the first byte of 2 candidates: 160.0 ms (round trip "
        "10.0 ms, measured; wait 100.0 ms, 3 in flight of 2 at once; service 50.0 ms)."
    )
    assert (decision.model, decision.version, decision.desperate) == ("m", 1, False)
