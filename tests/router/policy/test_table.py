from dataclasses import replace

import pytest
from hypothesis import given

from federation.contract.errors import Invalid, NotFound
from federation.contract.types import Connectivity, Endpoint, ModelRoute, Replica, Snapshot
from router.policy.table import Reach, build
from tests.router.policy.worlds import snapshots


def snapshot_of(*, url: str = "http://h:1", residency: tuple[str, ...] = ()) -> Snapshot:
    route = ModelRoute(
        name="digits", default_version=2, aliases={"champion": 1}, residency=residency
    )
    return Snapshot(
        version=5,
        models=(route, ModelRoute(name="poet", default_version=1)),
        endpoints=(
            Endpoint(cluster="a", region="eu", url=url),
            Endpoint(cluster="b", region="us", url="http://h:2"),
        ),
        replicas=(
            Replica(model="digits", version=1, cluster="a"),
            Replica(model="digits", version=2, cluster="a"),
            Replica(model="digits", version=2, cluster="b"),
            Replica(model="digits", version=2, cluster="b"),
        ),
    )


@pytest.mark.parametrize(
    ("reference", "version", "expected"),
    [
        ("digits", None, 2),
        ("digits@1", None, 1),
        ("digits@champion", None, 1),
        ("digits", 1, 1),
        ("digits@champion", 2, 2),
        ("poet", None, 1),
        ("poet@1", None, 1),
    ],
)
def test_a_reference_becomes_a_version(reference: str, version: int | None, expected: int) -> None:
    resolved = build(snapshot_of()).resolve(reference, version)
    assert (resolved.route.name, resolved.version) == (reference.partition("@")[0], expected)


@pytest.mark.parametrize(
    ("reference", "version", "words", "reason"),
    [
        ("digit", None, "no model 'digit' here. Did you mean 'digits'?", "unknown-model"),
        ("", None, "no model '' here", "unknown-model"),
        ("digits@campion", None, "no version or alias 'campion' here. Did you mean", "unknown-ver"),
        ("digits@3", None, "no version '3' here. There are: 1, 2, champion.", "unknown-version"),
        ("digits", 99, "no version '99' here", "unknown-version"),
        ("digits@" + "9" * 5000, None, "no version or alias", "unknown-version"),
        ("digits@²", None, "no version or alias", "unknown-version"),
    ],
)
def test_what_is_unknown_is_named_with_near_misses(
    reference: str, version: int | None, words: str, reason: str
) -> None:
    with pytest.raises(NotFound) as caught:
        build(snapshot_of()).resolve(reference, version)
    assert words in caught.value.sentence()
    assert caught.value.reason.startswith(reason)


def test_what_sleeps_is_known_by_its_versions() -> None:
    route = ModelRoute(name="m", default_version=2, dormant=(2, 3))
    table = build(Snapshot(version=1, models=(route,)))
    assert table.resolve("m@3").version == 3
    assert table.versions["m"] == (2, 3)
    assert table.replicas("m", 3) == ()
    with pytest.raises(NotFound):
        table.resolve("m@1")


def test_an_inconsistent_snapshot_is_refused_with_everything_that_is_wrong() -> None:
    bad = Snapshot(version=3, replicas=(Replica(model="m", version=1, cluster="c"),))
    with pytest.raises(Invalid, match="unknown model 'm'; replica of 'm' at unknown cluster 'c'"):
        build(bad)


def test_a_snapshot_that_names_anything_twice_or_nowhere_is_refused() -> None:
    good = snapshot_of()
    lost = replace(good.replicas[0], cluster="nowhere")
    for bad, words in (
        (replace(good, endpoints=(*good.endpoints, good.endpoints[0])), "two endpoints"),
        (replace(good, models=(*good.models, good.models[0])), "two routes"),
        (replace(good, replicas=(*good.replicas, lost)), "unknown cluster 'nowhere'"),
    ):
        with pytest.raises(Invalid, match=words):
            build(bad)


@pytest.mark.parametrize("url", ["", "ftp://h:1", "http://", "http://h:99999", "http://[::1"])
def test_one_odd_url_costs_only_its_own_cluster(url: str) -> None:
    table = build(snapshot_of(url=url))
    assert [e.cluster for e in table.replicas("digits", 2)] == ["b"]
    assert "cannot be dialled" in table.unusable["a"]
    assert table.replicas("digits", 1) == ()
    assert table.resolve("digits@1").version == 1


def test_the_index_holds_nothing_outside_the_residency() -> None:
    table = build(snapshot_of(residency=("us",)))
    assert [e.cluster for e in table.replicas("digits", 2)] == ["b"]
    assert table.replicas("digits", 1) == ()
    assert repr(table) == "RoutingTable(version=5, models=2, endpoints=2, replicas=4)"


@given(snapshots())
def test_every_replica_is_indexed_or_outside_the_residency(snapshot: Snapshot) -> None:
    table, route = build(snapshot), snapshot.models[0]
    for replica in snapshot.replicas:
        endpoint = table.endpoints[replica.cluster]
        allowed = not route.residency or endpoint.region in route.residency
        assert (endpoint in table.replicas("m", replica.version)) == allowed


@pytest.mark.parametrize(
    ("connectivity", "url", "reach", "why"),
    [
        (Connectivity.DIAL, "http://h:1", Reach(), ""),
        (Connectivity.DIAL, "http://h:1", Reach(secure=True), "is plain HTTP"),
        (Connectivity.DIAL, "https://h:1", Reach(secure=True), ""),
        (Connectivity.DIAL, "", Reach(secure=True, reverse=True), "cannot be dialled"),
        (Connectivity.REVERSE, "", Reach(secure=True, reverse=True), ""),
        (Connectivity.REVERSE, "http://h:1", Reach(secure=True, reverse=True), ""),
        (Connectivity.REVERSE, "https://h:1", Reach(secure=True), "takes no such connections"),
        (Connectivity.UNKNOWN, "https://h:1", Reach(secure=True, reverse=True), "does not know"),
    ],
)
def test_how_a_cluster_connects_decides_whether_it_is_used(
    connectivity: Connectivity, url: str, reach: Reach, why: str
) -> None:
    odd = Endpoint(cluster="a", region="eu", url=url, connectivity=connectivity)
    table = build(replace(snapshot_of(), endpoints=(odd, snapshot_of().endpoints[1])), reach)
    assert why in table.unusable.get("a", "")
    assert bool(table.replicas("digits", 1)) == (not why)
    if connectivity is Connectivity.REVERSE:
        assert table.endpoints["a"].url == ""
