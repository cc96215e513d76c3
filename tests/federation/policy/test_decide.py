from datetime import timedelta
from typing import get_args

import pytest

from federation.contract.errors import Invalid
from federation.contract.package import ModelPackage
from federation.contract.resources import RegionSpec
from federation.contract.types import Location, Runtime
from federation.policy.decide import HANDLERS, decide
from federation.policy.events import (
    Applied,
    Event,
    Idempotency,
    ModelVersionPushed,
    Outcome,
    Put,
    RegionApplied,
)
from federation.policy.records import RegionRecord
from tests.federation.policy.world import World

KEY = Idempotency(key="k", fingerprint="f")


def region(name: str, latitude: float = 1) -> RegionApplied:
    spec = RegionSpec(location=Location(latitude=latitude, longitude=1))
    return RegionApplied(actor="ada", name=name, spec=spec)


def apply(world: World, event: Event, key: Idempotency | None = None) -> Outcome:
    return decide(world.state, event, world.now, key)


def test_every_event_has_a_handler() -> None:
    assert set(HANDLERS) == set(get_args(Event))


def test_a_change_is_written_with_its_author() -> None:
    world = World()
    outcome = apply(world, region("eu"))
    written = [c.record for c in outcome.commands if isinstance(c, Put)]
    assert isinstance(written[0], RegionRecord)
    assert written[1].actor == "ada"
    assert outcome.result == Applied(kind="Region", name="eu", created=True)


def test_revisions_never_repeat() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    given = [c.revision for c in world.commands if isinstance(c, Put) and c.revision]
    assert given == sorted(set(given))
    assert given[-1] == world.state.revision


def test_the_same_key_gets_the_same_answer_and_changes_nothing() -> None:
    world = World()
    first = apply(world, region("eu"), KEY)
    before = world.state.copy()
    again = apply(world, region("eu", latitude=9), KEY)
    assert again.result == first.result
    assert again.commands == ()
    assert world.state == before


def test_a_pushed_version_is_answered_again_whole() -> None:
    world = World()
    event = ModelVersionPushed(
        actor="ada",
        package=ModelPackage(name="m", runtime=Runtime.ONNX),
        digest="d",
        size=1,
        files=1,
        source="",
    )
    first = apply(world, event, KEY)
    assert first.result == Applied(kind="Model", name="m", created=True, version=1, digest="d")
    assert apply(world, event, KEY).result == first.result


def test_a_key_for_another_request_is_refused() -> None:
    world = World()
    apply(world, region("eu"), KEY)
    with pytest.raises(Invalid, match="was used for another request") as refusal:
        apply(world, region("us"), Idempotency(key="k", fingerprint="other"))
    assert refusal.value.reason == "idempotency-key-reused"


def test_a_refusal_is_not_remembered() -> None:
    world = World()
    with pytest.raises(Invalid):
        apply(world, region("EU"), KEY)
    apply(world, region("eu"), KEY)
    assert "eu" in world.state.regions


def test_a_key_is_forgotten_after_a_day() -> None:
    world = World()
    apply(world, region("eu"), KEY)
    world.now += timedelta(hours=25)
    apply(world, region("us"), Idempotency(key="k", fingerprint="other"))
    assert set(world.state.regions) == {"eu", "us"}
