import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from federation.contract.access import Access, Tenant
from federation.contract.errors import NotFound, PermissionDenied, Unavailable
from federation.contract.rollout import CanaryRoute
from federation.contract.types import Location, Snapshot
from federation.runtime.clock import ManualClock
from router.explain import explain
from router.geo import Locator
from router.policy import table as tables
from router.policy.signals import Ending
from router.policy.split import standing
from router.state import RouterState
from tests.router.fakes import make_snapshot

URLS = {"eu-1": "http://h:1", "eu-2": "http://h:2", "us-1": "http://h:3", "ap-1": "nonsense"}


@pytest.fixture(scope="module")
def locator() -> Iterator[Locator]:
    locator = Locator()
    yield locator
    locator.close()


def make_state(snapshot: Snapshot) -> RouterState:
    state = RouterState(name="r1", clock=ManualClock(), dice=random.Random(0))
    state.swap(tables.build(snapshot))
    return state


def rows(document: dict[str, object]) -> dict[str, dict[str, object]]:
    candidates = document["candidates"]
    assert isinstance(candidates, list)
    return {row["cluster"]: row for row in candidates}


def test_every_cluster_has_a_score_or_a_reason(locator: Locator) -> None:
    state = make_state(make_snapshot(URLS))
    state.signals.probed("eu-1", 12.0, "", 0.0)
    state.signals.probed("us-1", 90.0, "", 0.0)
    for _ in range(3):
        state.signals.begin("eu-2", "private", 1, 0.0).end(Ending.BROKEN, "reset", 0.0)
    document = explain(state, locator, "private", "133.11.0.1")
    found = rows(document)
    assert (document["router"], document["model"], document["version"]) == ("r1", "private", 1)
    client = document["client"]
    assert isinstance(client, dict)
    assert (client["address"], client["country"]) == ("133.11.0.1", "JP")
    assert document["chosen"] == "eu-1"
    assert document["why"] == "eu-1 is the only candidate left."
    assert found["eu-1"]["excluded"] is None
    assert found["eu-1"]["score_ms"] == 12.0
    assert found["eu-2"]["excluded"] == "ejected: reset"
    assert found["us-1"]["excluded"] == "requests for 'private' never leave eu"
    assert found["us-1"]["rtt_ms"] == 90.0
    assert explain(state, locator, "digits", "")["version"] == 2
    assert rows(explain(state, locator, "digits", ""))["ap-1"]["excluded"] == (
        "its URL 'nonsense' cannot be dialled"
    )


def test_before_any_measurement_the_clients_place_is_the_guess(locator: Locator) -> None:
    state = make_state(make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"}))
    without = rows(explain(state, locator, "digits", "127.0.0.1"))
    assert without["eu-1"]["rtt_ms"] == without["us-1"]["rtt_ms"] == 100.0
    located = rows(explain(state, locator, "digits", "133.11.0.1"))
    assert located["us-1"]["rtt_ms"] != located["eu-1"]["rtt_ms"]
    state.location = Location(latitude=10.0, longitude=20.0)
    assert rows(explain(state, locator, "digits", "133.11.0.1"))["us-1"]["rtt_ms"] == 14.7


def test_a_version_that_nobody_has_is_told(locator: Locator) -> None:
    snapshot = make_snapshot({"eu-1": "http://h:1"})
    state = make_state(Snapshot(version=1, models=snapshot.models, endpoints=snapshot.endpoints))
    document = explain(state, locator, "digits@champion", "")
    assert document["chosen"] is None
    assert rows(document)["eu-1"]["excluded"] == "it has no warm replica of version 1"


def test_a_version_that_sleeps_is_told(locator: Locator) -> None:
    snapshot = make_snapshot(URLS)
    models = tuple(replace(route, dormant=(1,)) for route in snapshot.models)
    document = explain(
        make_state(replace(snapshot, models=models, replicas=())), locator, "poet", ""
    )
    assert document["chosen"] is None
    assert document["why"] == (
        "Version 1 of 'poet' sleeps, since nobody used it: a request wakes it, and waits here "
        "meanwhile."
    )


def test_what_cannot_be_explained_is_an_error(locator: Locator) -> None:
    state = make_state(make_snapshot({"eu-1": "http://h:1"}))
    with pytest.raises(NotFound, match="no model 'digit'"):
        explain(state, locator, "digit", "")
    state.table = None
    with pytest.raises(Unavailable):
        explain(state, locator, "digits", "")


def test_a_tenants_residency_and_models_are_respected(locator: Locator) -> None:
    tenants = (Tenant(name="euro", residency=("us",), models=("digits",)),)
    snapshot = replace(make_snapshot(URLS), access=Access(tenants=tenants))
    state = make_state(snapshot)
    document = explain(state, locator, "digits", "", "euro")
    assert document["chosen"] == "us-1"
    assert rows(document)["eu-1"]["excluded"] == "requests of tenant 'euro' never leave us"
    with pytest.raises(PermissionDenied):
        explain(state, locator, "poet", "", "euro")
    with pytest.raises(NotFound, match="no tenant 'eura'"):
        explain(state, locator, "digits", "", "eura")


def test_a_rollout_is_told_with_the_clients_place_in_it(locator: Locator) -> None:
    canary = CanaryRoute(rollout="ro-1", version=1, weights={"us": 25.0})
    snapshot = make_snapshot({"us-1": "http://h:1", "eu-1": "http://h:2"})
    digits, *rest = snapshot.models
    state = make_state(replace(snapshot, models=(replace(digits, canary=canary), *rest)))
    state.signals.probed("us-1", 10.0, "", 0.0)
    state.signals.probed("eu-1", 90.0, "", 0.0)
    marks = {f"c{i}": standing("ro-1", f"c{i}")[0] for i in range(40)}
    taken = next(client for client, mark in marks.items() if mark < 25)
    left = next(client for client, mark in marks.items() if mark >= 25)
    document = explain(state, locator, "digits", "", client_key=taken)
    assert (document["version"], document["chosen"]) == (1, "us-1")
    assert document["split"] == {
        "rollout": "ro-1",
        "stable": 2,
        "canary": 1,
        "percent": {"us": 25.0},
        "client": round(marks[taken], 1),
        "client_known": True,
    }
    begin = f"Canary, ro-1: client {marks[taken]:.1f} < 25 % in us. us-1 has the least"
    assert str(document["why"]).startswith(begin)
    found = document["candidates"]
    assert isinstance(found, list)
    assert [(row["cluster"], row["version"], row["excluded"]) for row in found] == [
        ("us-1", 1, None),
        ("eu-1", 2, None),
        ("us-1", 2, "the canary, version 1, answers"),
    ]
    other = explain(state, locator, "digits", "", client_key=left)
    assert other["version"] == 2
    assert str(other["why"]).startswith(f"Stable, ro-1: client {marks[left]:.1f} ≥ 25 % in us.")
    assert explain(state, locator, "digits@champion", "")["split"] is None
    unknown = explain(state, locator, "digits", "")["split"]
    assert isinstance(unknown, dict)
    assert unknown["client_known"] is False
