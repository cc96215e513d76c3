"""What is remembered of settled clusters never hides a change."""

from dataclasses import replace

import pytest

from federation.contract.resources import ClusterSpec
from federation.contract.types import EngineKind
from federation.policy.records import ClusterRecord
from federation.policy.settled import Known, Settled
from tests.federation.policy.rollouts.rollout_world import RolloutWorld


def known(world: RolloutWorld, rest: object = "rest") -> Known:
    deployment, model = world.state.deployments["d"], world.state.models["m"]
    return Known(deployment.spec, model.versions[:2], rest)


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_a_cluster_that_was_noted_need_not_be_looked_at_again(world: RolloutWorld) -> None:
    clusters, found = world.state.clusters, known(world)
    assert found.unsure(clusters) == ["a", "b", "c", "d"]
    found.note(clusters["a"])
    assert found.unsure(clusters) == ["b", "c", "d"]
    reported = replace(clusters["a"], meta=replace(clusters["a"].meta, resource_version=99))
    assert found.unsure({"a": reported}) == []


def changed(record: ClusterRecord, what: str) -> ClusterRecord:
    if what == "assignment":
        return replace(record, assignment=replace(record.assignment, generation=99))
    if what == "spec":
        return replace(record, spec=ClusterSpec(region="eu", allow_code=True))
    assert record.last is not None
    return replace(record, last=replace(record.last, engine=EngineKind.STATIC))


@pytest.mark.parametrize("what", ["assignment", "spec", "engine"])
def test_a_cluster_that_is_another_now_is_looked_at(world: RolloutWorld, what: str) -> None:
    found, record = known(world), world.state.clusters["a"]
    found.note(record)
    assert found.unsure({"a": changed(record, what)}) == ["a"]


def test_another_wish_begins_from_nothing(world: RolloutWorld) -> None:
    settled = Settled()
    first = settled.of("m", known(world))
    assert settled.of("m", known(world)) is first
    assert settled.of("m", known(world, "other")) is not first
    world.push("m", "4")  # the record of the model is another, its versions are the same objects
    second = settled.of("m", known(world, "other"))
    assert settled.of("m", replace_spec(world)) is not second


def replace_spec(world: RolloutWorld) -> Known:
    new = known(world, "other")
    return Known(replace(new.spec), new.versions, new.rest)


def test_models_without_a_rollout_are_forgotten(world: RolloutWorld) -> None:
    settled = Settled()
    first = settled.of("m", known(world))
    settled.retain(["m"])
    assert settled.of("m", known(world)) is first
    settled.retain([])
    assert settled.of("m", known(world)) is not first
    assert repr(settled) == "Settled(1 models)"
