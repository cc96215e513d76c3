"""Who moves with whom."""

import pytest

from federation.contract.errors import Invalid
from federation.contract.resources import ClusterSpec
from federation.contract.rollout import Wave
from federation.policy.rollouts.records import WaveRecord
from federation.policy.rollouts.waves import resolved, shared_regions

SPECS = {
    "a": ClusterSpec(region="eu", labels={"tier": "edge"}),
    "b": ClusterSpec(region="eu"),
    "c": ClusterSpec(region="us", labels={"tier": "edge"}),
    "d": ClusterSpec(region="ap"),
}
REGIONS = {"eu": 1, "us": 1, "ap": 1, "cn": 1}
REST = Wave(regions=("*",))


def names(*waves: Wave) -> list[tuple[str, ...]]:
    return [wave.clusters for wave in resolved(waves, SPECS, REGIONS)]


def test_no_waves_are_all_clusters_at_once() -> None:
    (wave,) = resolved((), SPECS, REGIONS)
    assert wave == WaveRecord(regions=("ap", "eu", "us"), clusters=("a", "b", "c", "d"))


def test_waves_by_region_and_the_rest() -> None:
    assert names(Wave(regions=("us",)), REST) == [("c",), ("a", "b", "d")]


def test_waves_by_cluster_and_by_label() -> None:
    assert names(Wave(clusters=("b",)), Wave(cluster_labels={"tier": "edge"}), REST) == [
        ("b",),
        ("a", "c"),
        ("d",),
    ]


def test_labels_narrow_regions_down() -> None:
    edge = Wave(regions=("eu",), cluster_labels={"tier": "edge"})
    assert names(edge, REST) == [("a",), ("b", "c", "d")]


def test_an_approval_stays_with_its_wave() -> None:
    waves = resolved((Wave(regions=("eu",)), Wave(regions=("*",), approval=True)), SPECS, REGIONS)
    assert [wave.approval for wave in waves] == [False, True]


def test_a_rest_of_nobody_is_no_wave() -> None:
    assert names(Wave(regions=("eu", "us", "ap")), REST) == [("a", "b", "c", "d")]


@pytest.mark.parametrize(
    ("waves", "reason"),
    [
        ((Wave(regions=("eu",)), Wave(clusters=("b",)), REST), "waves-overlap"),
        ((Wave(regions=("mars",)), REST), "unknown-region"),
        ((Wave(regions=("cn",)), REST), "empty-region"),
        ((Wave(clusters=("x",)), REST), "unknown-cluster"),
        ((Wave(cluster_labels={"tier": "core"}), REST), "empty-wave"),
        ((Wave(regions=("eu",)),), "waves-incomplete"),
    ],
)
def test_waves_that_make_no_sense_are_refused(waves: tuple[Wave, ...], reason: str) -> None:
    with pytest.raises(Invalid) as refusal:
        names(*waves)
    assert refusal.value.reason == reason


def test_nothing_to_move_is_refused() -> None:
    with pytest.raises(Invalid, match="no cluster serves"):
        resolved((), {}, REGIONS)


def test_regions_of_several_waves_are_told() -> None:
    waves = resolved((Wave(clusters=("a",)), REST), SPECS, REGIONS)
    assert shared_regions(waves) == {"eu": [1, 2]}
