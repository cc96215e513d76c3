import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from router.policy import table as tables
from router.policy.affinity import keys
from router.policy.decision import Decision, Question, Reason
from router.policy.pick import NEAR_EQUAL_MS, NEAR_EQUAL_SHARE, RETURN_S, decide
from router.policy.shortlist import Option
from router.policy.signals import Ending, Signals, avoid
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
    left = {c.cluster for c in decision.candidates()} - failed
    assert (decision.chosen is None) == (not left)
    assert decision.why.endswith(".")


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_ejected_and_absent_ones_only_when_nothing_better_is_left(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    if (chosen := decision.chosen) is None:
        return
    left = [o for o in everyone(signals) if o.cluster not in failed]
    bad = {o.cluster for o in left if avoid(o.lane, NOW_S)}
    if decision.desperate:
        assert all(o.cluster in bad or not o.endpoint.present for o in left)
    elif chosen.cluster in bad:
        assert decision.reason is Reason.PANIC or len(left) == 1
    elif not chosen.endpoint.present:
        assert not any(o.endpoint.present and o.cluster not in bad for o in left)


@given(snapshots(), learned(), FRACTIONS)
def test_the_same_arguments_give_the_same_decision(
    snapshot: Snapshot, signals: Signals, dice: float
) -> None:
    table = tables.build(snapshot)
    one, other = choose(table, signals, dice), choose(table, signals, dice)
    assert (one.chosen, one.reason) == (other.chosen, other.reason)


@given(snapshots(), learned(), FRACTIONS, FAILED)
def test_every_candidate_is_in_or_tells_why_it_is_out(
    snapshot: Snapshot, signals: Signals, dice: float, failed: set[str]
) -> None:
    decision = choose(tables.build(snapshot), signals, dice, failed)
    candidates = decision.candidates()
    for candidate in candidates:
        if candidate.cluster in failed:
            assert candidate.excluded
        assert candidate.score_ms >= candidate.rtt_ms >= 0.0
    if decision.chosen:
        kept = [c for c in candidates if not c.excluded]
        chosen = next(c for c in candidates if c.cluster == decision.chosen.cluster)
        assert chosen in kept
        if not decision.desperate and not failed:
            least = min(c.score_ms for c in kept)
            edge = least + max(NEAR_EQUAL_MS, NEAR_EQUAL_SHARE * least)
            assert chosen.score_ms <= edge + 1e-6 or came_back(decision)


def came_back(decision: Decision) -> bool:
    """Whether something is let in only gradually."""
    return any(o.lane.back_at_s + RETURN_S > NOW_S for o in decision._short.options)


def everyone(signals: Signals) -> list[Option]:
    return [o for short in signals.lists.values() for o in short.options]


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
    for cluster in ("near", "far"):
        signals.lane(cluster, "m", 1).declare(4, 100.0, 0)
    signals.stamp += 1
    for _ in range(4):
        assert choose(table, signals, 0.5).reason is Reason.NEAREST
        signals.begin("near", "m", 1, NOW_S)
    for _ in range(4):
        signals.begin("near", "m", 1, NOW_S)
    decision = choose(table, signals, 0.5)
    assert decision.chosen is not None
    assert decision.chosen.cluster == "far"
    assert decision.reason is Reason.SPILLED


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
    assert max(counts.values()) - min(counts.values()) <= 60


def test_an_absent_healthy_cluster_is_better_than_a_present_ejected_one() -> None:
    table, signals = table_of("here", "gone", absent="gone"), Signals()
    assert choose(table, signals, 0.1).candidates()[1].excluded == (
        "the control plane lost contact with it"
    )
    for _ in range(3):
        signals.begin("here", "m", 1, NOW_S).end(Ending.UNREACHABLE, "connection refused", NOW_S)
    decision = choose(table, signals, 0.1)
    assert decision.chosen is not None
    assert decision.chosen.cluster == "gone"
    assert decision.candidates()[0].excluded == "ejected: connection refused"
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


def spread(
    table: RoutingTable, signals: Signals, count: int = 400, **more: object
) -> dict[str, float]:
    """Return the shares of so many requests that are answered at once."""
    dice, question = random.Random(5), Question(resolved=table.resolve("m"), now_s=NOW_S)
    for name, value in more.items():
        setattr(question, name, value)
    counts: dict[str, int] = {}
    for _ in range(count):
        chosen = decide(table, signals, question, dice).chosen
        name = chosen.cluster if chosen else "none"
        counts[name] = counts.get(name, 0) + 1
    return {name: n / count for name, n in counts.items()}


def measured(*clusters: str, rtts: tuple[float, ...] = ()) -> tuple[RoutingTable, Signals]:
    table, signals = table_of(*clusters), Signals()
    for i, cluster in enumerate(clusters):
        signals.probed(cluster, rtts[i] if rtts else 20.0, "", NOW_S)
        signals.lane(cluster, "m", 1).declare(4, 100.0, 8)
    return table, signals


def test_a_ceiling_holds_however_attractive_a_cluster_says_it_is() -> None:
    table, signals = measured("liar", "b", "c", rtts=(1.0, 80.0, 80.0))
    signals.ceilings = {"liar": 0.4}
    assert 0.35 <= spread(table, signals)["liar"] <= 0.45


def test_below_half_healthy_what_answers_probes_is_used_again() -> None:
    table, signals = measured("a", "b", "c", "d")
    for cluster in "abc":
        for _ in range(3):
            signals.begin(cluster, "m", 1, NOW_S).end(Ending.BROKEN, "reset", NOW_S)
    assert set(spread(table, signals)) == set("abcd")
    assert choose(table, signals, 0.5).reason is Reason.PANIC
    for cluster in "abc":
        for _ in range(2):
            signals.probed(cluster, None, "silent", NOW_S)
    signals.stamp += 1
    table, signals = measured("a", "b", "c", "d")
    for cluster in "abc":
        for _ in range(2):
            signals.probed(cluster, None, "silent", NOW_S)
    assert set(spread(table, signals)) == {"d"}, "what is plainly dead is not"


def test_when_all_are_full_nobody_is_chosen() -> None:
    table, signals = measured("a", "b")
    for cluster in "ab":
        for _ in range(8):
            signals.begin(cluster, "m", 1, NOW_S)
    decision = choose(table, signals, 0.5)
    assert (decision.chosen, decision.reason) == (None, Reason.FULL)
    assert decision.why == (
        "Every cluster that serves version 1 of 'm' has as many requests as it takes."
    )


def test_what_comes_back_gets_its_share_gradually() -> None:
    table, signals = measured("near", "far", rtts=(1.0, 60.0))
    lane = signals.lane("near", "m", 1)
    for since_s, low, high in ((1.0, 0.03, 0.3), (5.0, 0.5, 0.85), (11.0, 1.0, 1.0)):
        lane.back_at_s = NOW_S - since_s
        assert low <= spread(table, signals)["near"] <= high


def test_regions_are_preferred_in_the_order_that_is_wanted() -> None:
    table, signals = measured("near", "far", rtts=(1.0, 200.0))
    signals.prefer = ("us",)
    assert set(spread(table, signals)) == {"near"}
    signals.lists.clear()
    far = next(o for o in table.snapshot.endpoints if o.cluster == "far")
    snapshot = replace(
        table.snapshot, endpoints=(table.snapshot.endpoints[0], replace(far, region="us"))
    )
    other = tables.build(snapshot)
    assert set(spread(other, signals)) == {"far"}


def test_an_affinity_is_kept_but_is_no_trap() -> None:
    table, signals = measured("a", "b", "c", rtts=(20.0, 22.0, 25.0))
    wanted = keys("session-1", b"")
    [owner] = spread(table, signals, affinity=wanted)
    assert choose_with(table, signals, wanted).reason is Reason.AFFINITY
    owners = {
        decision.chosen.cluster
        for n in range(30)
        if (decision := choose_with(table, signals, keys(f"s{n}", b""))).chosen
    }
    assert owners == set("abc")
    for _ in range(7):
        signals.begin(owner, "m", 1, NOW_S)
    assert owner not in spread(table, signals, affinity=wanted)


def choose_with(table: RoutingTable, signals: Signals, wanted: tuple[int, ...]) -> Decision:
    question = Question(resolved=table.resolve("m"), now_s=NOW_S, affinity=wanted)
    return decide(table, signals, question, Fixed(0.5))


def test_a_small_difference_moves_a_small_share() -> None:
    """No flapping: shares follow the distance without a jump."""
    before = 0.5
    for step in range(1, 21):
        table, signals = measured("a", "b", rtts=(100.0, 100.0 + step))
        share = spread(table, signals, 2000).get("a", 0.0)
        assert abs(share - before) < 0.12
        before = share
