import random

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from router.policy import table as tables
from router.policy.pick import Decision, Question, decide
from router.policy.signals import Ending, Signals
from router.policy.table import Resolved, RoutingTable
from tests.router.policy.worlds import CLUSTERS, Fixed, learned, snapshots

NOW_S = 100.0
FRACTIONS = st.floats(0, 1, exclude_max=True)
FAILED = st.sets(st.sampled_from(CLUSTERS))


def choose(
    table: RoutingTable, signals: Signals, dice: float, failed: set[str] | None = None
) -> Decision:
    question = Question(resolved=table.resolve("m"), now_s=NOW_S, failed=failed or set())
    return decide(table, signals, question, Fixed(dice))


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_only_warm_replicas_inside_the_residency_are_picked(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    if decision.chosen is None:
        return
    route = snapshot.models[0]
    assert decision.chosen.cluster not in failed
    assert decision.chosen.cluster in {
        r.cluster for r in snapshot.replicas if r.version == route.default_version
    }
    assert not route.residency or decision.chosen.region in route.residency


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_something_is_picked_whenever_something_is_left(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    left = {c.cluster for c in decision.candidates} - failed
    assert (decision.chosen is None) == (not left)
    assert decision.why.endswith(".")


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_ejected_and_absent_ones_only_when_nothing_better_is_left(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    left = [c for c in decision.candidates if c.cluster not in failed]
    if (chosen := decision.chosen) is None:
        return
    if chosen.avoid:
        assert all(c.avoid for c in left)
        assert decision.desperate
    if not chosen.present:
        assert not any(c.present and bool(c.avoid) == bool(chosen.avoid) for c in left)


@given(snapshots(), learned(), FRACTIONS)
def test_the_same_arguments_give_the_same_decision(
    snapshot: Snapshot, signals: Signals, dice: float
) -> None:
    table = tables.build(snapshot)
    assert choose(table, signals, dice) == choose(table, signals, dice)


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_every_candidate_is_in_or_tells_why_it_is_out(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    for candidate in decision.candidates:
        if candidate.cluster in failed:
            assert candidate.excluded
    if decision.chosen:
        kept = [c for c in decision.candidates if not c.excluded]
        assert decision.chosen in kept
        least = min(c.score_ms for c in kept)
        assert decision.chosen.score_ms <= least + max(1.0, 0.1 * least)


def table_of(*clusters: str, absent: str = "") -> RoutingTable:
    endpoints = tuple(
        Endpoint(cluster=c, region="eu", url="http://h:1", present=c != absent) for c in clusters
    )
    replicas = tuple(Replica(model="m", version=1, cluster=c) for c in clusters)
    models = (ModelRoute(name="m", default_version=1),)
    return tables.build(Snapshot(version=1, models=models, endpoints=endpoints, replicas=replicas))


def test_the_nearest_is_picked_until_it_is_busy() -> None:
    table, signals = table_of("near", "far"), Signals()
    signals.probed("near", 10.0, "", NOW_S)
    signals.probed("far", 100.0, "", NOW_S)
    assert choose(table, signals, 0.5).why.startswith("near has the least expected time")
    for _ in range(10):
        signals.begin("near", "m", 1, NOW_S).first_byte(110.0, None, NOW_S)
    chosen = choose(table, signals, 0.5).chosen
    assert chosen is not None
    assert chosen.cluster == "far"


def test_equals_share_the_load() -> None:
    table, signals, dice = table_of("a", "b", "c"), Signals(), random.Random(3)
    for cluster in "abc":
        signals.probed(cluster, 20.0, "", NOW_S)
    question = Question(resolved=table.resolve("m"), now_s=NOW_S)
    counts = dict.fromkeys("abc", 0)
    for _ in range(300):
        chosen = decide(table, signals, question, dice).chosen
        assert chosen is not None
        signals.begin(chosen.cluster, "m", 1, NOW_S)
        counts[chosen.cluster] += 1
    assert max(counts.values()) - min(counts.values()) <= 10


def test_an_absent_healthy_cluster_is_better_than_a_present_ejected_one() -> None:
    table, signals = table_of("here", "gone", absent="gone"), Signals()
    assert choose(table, signals, 0.1).candidates[1].excluded == (
        "the control plane lost contact with it"
    )
    for _ in range(3):
        signals.begin("here", "m", 1, NOW_S).end(Ending.UNREACHABLE, "connection refused", NOW_S)
    decision = choose(table, signals, 0.1)
    assert decision.chosen is not None
    assert decision.chosen.cluster == "gone"
    assert decision.candidates[0].excluded == "ejected: connection refused"
    assert decision.why == "gone is the only candidate left."


def test_the_reason_for_a_desperate_choice_and_for_none_is_told() -> None:
    table, signals = table_of("a"), Signals()
    for _ in range(2):
        signals.probed("a", None, "no connection within 1 s", NOW_S)
    assert "is tried although: ejected: no connection" in choose(table, signals, 0.0).why
    assert "has failed this request" in choose(table, signals, 0.0, {"a"}).why
    resolved = Resolved(route=table.models["m"], version=9)
    nothing = decide(table, signals, Question(resolved=resolved, now_s=NOW_S), Fixed(0.0))
    assert nothing.why == "No cluster that may serve version 9 of 'm' has it warm."
