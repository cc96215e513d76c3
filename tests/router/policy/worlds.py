"""Hypothesis strategies: small federations, and what a router may have learned of them."""

from hypothesis import strategies as st

from federation.contract.types import Endpoint, Location, ModelRoute, Replica, Snapshot
from router.policy.signals import Signals

CLUSTERS = tuple(f"c{i}" for i in range(6))
REGIONS = ("eu", "us", "ap")
ANYWHERE = Location(latitude=0.0, longitude=0.0)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A consistent snapshot of one model, `m`, with versions 1 and 2."""
    clusters = draw(st.lists(st.sampled_from(CLUSTERS), unique=True))
    endpoints = tuple(
        Endpoint(
            cluster=name,
            region=draw(st.sampled_from(REGIONS)),
            url=f"http://10.0.0.{i + 1}:7500",
            location=draw(st.sampled_from([None, ANYWHERE])),
            present=draw(st.booleans()),
        )
        for i, name in enumerate(clusters)
    )
    replicas = tuple(
        Replica(model="m", version=draw(st.sampled_from([1, 2])), cluster=name)
        for name in clusters
        if draw(st.booleans())
    )
    residency = tuple(draw(st.lists(st.sampled_from(REGIONS), unique=True)))
    route = ModelRoute(name="m", default_version=draw(st.sampled_from([1, 2])), residency=residency)
    return Snapshot(version=1, models=(route,), endpoints=endpoints, replicas=replicas)


@st.composite
def learned(draw: st.DrawFn) -> Signals:
    """Signals after some probes and attempts; the time is now 100 s."""
    from router.policy.signals import Ending

    signals = Signals()
    for cluster in CLUSTERS:
        if draw(st.booleans()):
            signals.probed(cluster, draw(st.floats(0.1, 400)), "", 90.0)
        for _ in range(draw(st.integers(0, 3))):
            signals.probed(cluster, None, "silent", 95.0)
        for ending in draw(st.lists(st.sampled_from(Ending), max_size=4)):
            attempt = signals.begin(cluster, "m", draw(st.sampled_from([1, 2])), 98.0)
            if draw(st.booleans()):
                attempt.first_byte(draw(st.floats(0, 500)), draw(st.integers(0, 9)), 99.0)
            if draw(st.booleans()):
                attempt.end(ending, "tested", draw(st.floats(98.0, 100.0)))
    return signals


class Fixed:
    """Dice that always show the same."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value
