"""What is known of custom resources, and whose turn that makes it."""

import random
from typing import Any

import pytest

from federation.bridge.policy.custom import CLUSTER, DEPLOYMENT
from federation.bridge.policy.pacing import Patience, Turns
from federation.bridge.shelf import Key, Shelf
from federation.runtime.clock import ManualClock

Obj = dict[str, Any]
KEY: Key = (DEPLOYMENT, "d")
KIND = "ModelDeployment"


@pytest.fixture
def turns() -> Turns[Key]:
    return Turns(Patience(), random.Random(1))


@pytest.fixture
def shelf(turns: Turns[Key]) -> Shelf:
    return Shelf(turns, ManualClock())


def obj(version: int, name: str = "d", uid: str = "u") -> Obj:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


def version(shelf: Shelf) -> str:
    found = shelf.get(KEY)
    assert found is not None
    return found.version


def test_changes_make_turns_and_echoes_of_our_own_do_not(shelf: Shelf, turns: Turns[Key]) -> None:
    shelf.apply(KIND, "ADDED", obj(5))
    assert turns.due(0.0) == [KEY]
    turns.began(KEY, 0.0)
    assert shelf.take(KEY, obj(8))  # what our write answered
    for echo in (6, 8):
        shelf.apply(KIND, "MODIFIED", obj(echo))
        assert version(shelf) == "8"
    assert turns.due(9.0) == []
    shelf.apply(KIND, "MODIFIED", obj(9))
    assert turns.due(9.0) == [KEY]


def test_one_that_was_made_anew_is_another(shelf: Shelf) -> None:
    shelf.apply(KIND, "ADDED", obj(10))
    shelf.apply(KIND, "ADDED", obj(7, uid="other"))
    assert version(shelf) == "7"


def test_what_is_gone_has_no_turn(shelf: Shelf, turns: Turns[Key]) -> None:
    shelf.apply(KIND, "ADDED", obj(5))
    shelf.apply("EdgeCluster", "ADDED", obj(6))
    assert (len(shelf), len(list(shelf))) == (2, 2)
    shelf.apply(KIND, "DELETED", obj(7))
    assert shelf.names() == [(CLUSTER, "d")] == turns.due(0.0)
    shelf.replace("EdgeCluster", [obj(8, "e")])
    assert shelf.names() == [(CLUSTER, "e")]
    shelf.drop((CLUSTER, "e"))
    assert shelf.get((CLUSTER, "e")) is None
    assert not len(shelf)
