import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.rollout import CanaryRoute
from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from federation.runtime.backoff import Dice
from router.policy import canary, split
from router.policy import table as tables
from router.policy.affinity import keys
from router.policy.decision import Decision, Question, Reason
from router.policy.retry import Failed
from router.policy.signals import Ending, Signals
from router.policy.table import Resolved, RoutingTable
from tests.router.policy.worlds import CLUSTERS, REGIONS, Fixed, learned

NOW_S = 100.0
STABLE, CANARY = 1, 2


@st.composite
def worlds(draw: st.DrawFn) -> tuple[RoutingTable, CanaryRoute]:
    """Clusters that have one version, both or none, and a canary with some weights."""
    clusters = draw(st.lists(st.sampled_from(CLUSTERS), unique=True))
    route = CanaryRoute(
        rollout="ro",
        version=CANARY,
        weights=draw(st.dictionaries(st.sampled_from(REGIONS), st.floats(0, 100), min_size=1)),
    )
    has = {name: draw(st.sampled_from([(), (1,), (2,), (1, 2)])) for name in clusters}
    residency = tuple(draw(st.lists(st.sampled_from(REGIONS), unique=True)))
    model = ModelRoute(name="m", default_version=STABLE, residency=residency, canary=route)
    endpoints = tuple(
        Endpoint(
            cluster=name,
            region=draw(st.sampled_from(REGIONS)),
            url="http://h:1",
            present=draw(st.booleans()),
        )
        for name in clusters
    )
    replicas = tuple(
        Replica(model="m", version=version, cluster=name)
        for name, versions in has.items()
        for version in versions
    )
    snapshot = Snapshot(version=1, models=(model,), endpoints=endpoints, replicas=replicas)
    return tables.build(snapshot), route


FAILED = st.lists(
    st.builds(
        Failed,
        cluster=st.sampled_from(CLUSTERS),
        ending=st.sampled_from([Ending.REFUSED, Ending.BROKEN]),
        reason=st.just("tested"),
        version=st.sampled_from([1, 2]),
    ),
    max_size=3,
)


def ask(
    table: RoutingTable,
    signals: Signals,
    mark: float,
    dice: Dice | None = None,
    failed: Sequence[Failed] = (),
    regions: frozenset[str] = frozenset(),
    session: str = "",
) -> Decision:
    route = table.models["m"]
    assert route.canary is not None
    stood = split.Split(canary=route.canary, mark=mark, sticky=True, failed=failed)
    question = Question(
        resolved=Resolved(route=route, version=STABLE, split=stood),
        now_s=NOW_S,
        failed=[f.cluster for f in failed],
        regions=regions,
        affinity=keys(session, b""),
    )
    return canary.decide(table, signals, question, dice or Fixed(0.5))


@settings(max_examples=40)
@given(
    worlds(),
    learned(),
    st.floats(0, 99.9),
    st.floats(0, 0.99),
    FAILED,
    st.sets(st.sampled_from(REGIONS)),
)
def test_it_stays_where_it_must_and_on_what_is_warm(
    world: tuple[RoutingTable, CanaryRoute],
    signals: Signals,
    mark: float,
    dice: float,
    failed: list[Failed],
    regions: set[str],
) -> None:
    table, route = world
    decision = ask(table, signals, mark, Fixed(dice), failed, frozenset(regions))
    warm = {
        (e.cluster, version)
        for version in (STABLE, CANARY)
        for e in table.replicas("m", version, frozenset(regions))
    }
    tried = {(f.cluster, f.version) for f in failed}
    assert decision.why.endswith(".")
    assert decision.resolved.version == decision.version
    if decision.chosen is None:
        assert decision.version == STABLE
        assert decision.reason is Reason.FULL or not {w for w in warm - tried if w[1] == STABLE}
        return
    chosen = decision.chosen
    assert (chosen.cluster, chosen.version) in warm - tried
    assert not regions or chosen.region in regions
    if chosen.version == CANARY:  # never where it has no traffic; for others only in need
        assert route.weights[chosen.region] > 0
        stable_left = {w for w in warm - tried if w[1] == STABLE}
        assert mark < route.weights[chosen.region] or not stable_left
    rows = decision.candidates()
    assert (
        sum(
            not r.excluded and (r.cluster, r.version) == (chosen.cluster, chosen.version)
            for r in rows
        )
        == 1
    )


def table_of(
    *clusters: str, canaries: Sequence[str] = (), weights: dict[str, float] | None = None
) -> RoutingTable:
    """Clusters in the region that precedes the dash; the stable version is everywhere."""
    route = CanaryRoute(rollout="ro", version=CANARY, weights=weights or {"us": 25.0})
    endpoints = tuple(
        Endpoint(cluster=c, region=c.split("-")[0], url="http://h:1") for c in clusters
    )
    replicas = [Replica(model="m", version=STABLE, cluster=c) for c in clusters]
    replicas += [Replica(model="m", version=CANARY, cluster=c) for c in canaries]
    model = ModelRoute(name="m", default_version=STABLE, canary=route)
    return tables.build(
        Snapshot(version=1, models=(model,), endpoints=endpoints, replicas=tuple(replicas))
    )


def taken(decision: Decision) -> tuple[str, int]:
    assert decision.chosen is not None
    return decision.chosen.cluster, decision.version


def test_the_mark_decides_in_the_region_of_the_cluster() -> None:
    table = table_of("us-1", "eu-1", canaries=("us-1", "eu-1"))
    signals = Signals()
    signals.probed("us-1", 10.0, "", NOW_S)
    signals.probed("eu-1", 90.0, "", NOW_S)
    assert taken(ask(table, signals, 24.9)) == ("us-1", CANARY)
    assert taken(ask(table, signals, 25.0)) == ("us-1", STABLE)
    far = Signals()
    far.probed("us-1", 90.0, "", NOW_S)
    far.probed("eu-1", 10.0, "", NOW_S)
    assert taken(ask(table, far, 0.0)) == ("eu-1", STABLE)  # the nearest wins, whatever it has


def test_clusters_of_the_region_without_a_canary_keep_their_share() -> None:
    table, signals, dice = table_of("us-1", "us-2", canaries=("us-1",)), Signals(), random.Random(1)
    seen = Counter(taken(ask(table, signals, 3.0, dice)) for _ in range(200))
    assert set(seen) == {("us-1", CANARY), ("us-2", STABLE)}
    assert min(seen.values()) > 50


def test_a_slow_canary_is_not_avoided_but_its_queue_counts() -> None:
    table = table_of("us-1", "us-2", canaries=("us-1",), weights={"us": 50.0})
    signals, dice = Signals(), random.Random(1)
    for cluster, version, took_ms in (("us-1", 1, 20.0), ("us-2", 1, 20.0), ("us-1", 2, 400.0)):
        for _ in range(20):
            attempt = signals.begin(cluster, "m", version, NOW_S - 1)
            attempt.first_byte(took_ms, None, NOW_S - 0.5)
            attempt.end(Ending.ANSWERED, "", NOW_S - 0.5)
    seen = Counter(taken(ask(table, signals, 3.0, dice)) for _ in range(200))
    assert seen["us-1", CANARY] > 50
    assert "ejected" not in repr(signals)
    lane = signals.lane("us-1", "m", CANARY)
    for _ in range(int(lane.concurrency) + 3):
        signals.begin("us-1", "m", CANARY, NOW_S)
    assert taken(ask(table, signals, 3.0)) == ("us-2", STABLE)


def test_a_canary_much_slower_than_itself_elsewhere_is_not_ejected() -> None:
    clusters = ("us-1", "us-2", "us-3")
    table = table_of(*clusters, canaries=clusters, weights={"us": 100.0})
    signals = Signals()
    ask(table, signals, 3.0)
    for cluster, took_ms in zip(clusters, (20.0, 20.0, 900.0), strict=True):
        for _ in range(20):
            attempt = signals.begin(cluster, "m", CANARY, NOW_S - 1)
            attempt.first_byte(took_ms, None, NOW_S - 0.5)
            attempt.end(Ending.ANSWERED, "", NOW_S - 0.5)
    signals.stamp += 1
    rows = ask(table, signals, 3.0).candidates()
    assert not [row for row in rows if row.version == CANARY and row.excluded]


def test_who_fails_goes_to_another_canary_of_the_region_then_to_the_stable_version() -> None:
    table = table_of("us-1", "us-2", "eu-1", canaries=("us-1", "us-2"))
    signals = Signals()
    for i, cluster in enumerate(("us-1", "us-2", "eu-1")):
        signals.probed(cluster, 10.0 + 30 * i, "", NOW_S)
    assert taken(ask(table, signals, 3.0)) == ("us-1", CANARY)
    first = Failed(cluster="us-1", ending=Ending.REFUSED, reason="engine-down", version=CANARY)
    assert taken(ask(table, signals, 3.0, failed=[first])) == ("us-2", CANARY)
    second = Failed(cluster="us-2", ending=Ending.REFUSED, reason="engine-down", version=CANARY)
    assert taken(ask(table, signals, 3.0, failed=[first, second])) == ("us-1", STABLE)


def test_the_stable_version_of_the_same_cluster_is_there_for_a_canary_that_is_down() -> None:
    table, signals = table_of("us-1", canaries=("us-1",)), Signals()
    for ending in (Ending.REFUSED, Ending.BROKEN, Ending.UNREACHABLE):
        failed = Failed(cluster="us-1", ending=ending, reason="tested", version=CANARY)
        assert taken(ask(table, signals, 3.0, failed=[failed])) == ("us-1", STABLE)
    attempt = signals.begin("us-1", "m", CANARY, NOW_S)
    attempt.end(Ending.REFUSED, "engine-down", NOW_S)
    assert taken(ask(table, signals, 3.0)) == ("us-1", STABLE)  # held for a moment
    both = [Failed(cluster="us-1", ending=Ending.REFUSED, reason="", version=v) for v in (2, 1)]
    nothing = ask(table, signals, 3.0, failed=both)
    assert (nothing.chosen, nothing.reason) == (None, Reason.NONE)


def test_a_cluster_whose_connection_broke_comes_last() -> None:
    table, signals = table_of("us-1", "eu-1", canaries=("us-1",)), Signals()
    signals.probed("us-1", 10.0, "", NOW_S)
    signals.probed("eu-1", 90.0, "", NOW_S)
    broken = Failed(cluster="us-1", ending=Ending.UNREACHABLE, reason="", version=CANARY)
    assert taken(ask(table, signals, 3.0, failed=[broken])) == ("eu-1", STABLE)
    refused = Failed(cluster="us-1", ending=Ending.REFUSED, reason="", version=CANARY)
    assert taken(ask(table, signals, 3.0, failed=[refused])) == ("us-1", STABLE)


def test_a_canary_answers_where_the_stable_version_is_gone() -> None:
    table = table_of("us-1", canaries=("us-1",))
    replicas = tuple(r for r in table.snapshot.replicas if r.version == CANARY)
    snapshot = Snapshot(
        version=2,
        models=table.snapshot.models,
        endpoints=table.snapshot.endpoints,
        replicas=replicas,
    )
    decision = ask(tables.build(snapshot), Signals(), 90.0)
    assert taken(decision) == ("us-1", CANARY)


def test_a_session_stays_at_one_cluster_and_version() -> None:
    clusters = tuple(f"us-{i}" for i in range(4))
    table = table_of(*clusters, canaries=clusters, weights={"us": 50.0})
    signals, dice = Signals(), random.Random(2)
    for cluster in clusters:
        signals.probed(cluster, 5.0, "", NOW_S)
        for version in (STABLE, CANARY):
            attempt = signals.begin(cluster, "m", version, NOW_S - 1)
            attempt.first_byte(40.0, None, NOW_S - 0.5)
            attempt.end(Ending.ANSWERED, "", NOW_S - 0.5)
    seen = {taken(ask(table, signals, 3.0, dice, session="s")) for _ in range(50)}
    assert len(seen) == 1
    assert ask(table, signals, 3.0, dice, session="s").reason is Reason.AFFINITY


def test_all_versions_at_all_clusters_are_told_with_their_reasons() -> None:
    table, signals = table_of("us-1", "eu-1", canaries=("us-1", "eu-1")), Signals()
    signals.probed("us-1", 10.0, "", NOW_S)
    decision = ask(table, signals, 3.0)
    rows = {(row.cluster, row.version): row.excluded for row in decision.candidates()}
    assert rows == {
        ("us-1", CANARY): "",
        ("us-1", STABLE): "the canary, version 2, answers",
        ("eu-1", STABLE): "",
    }
    assert decision.why.startswith("us-1 has the least expected time")
