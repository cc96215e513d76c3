"""Pods that are warm, pods that come, pods that do not answer."""

import asyncio
from pathlib import Path

import pytest

from edge_agent.backends import kube_warmth
from edge_agent.backends.base import BackendError, StagedVersion
from edge_agent.backends.kube_warmth import PodWarmth
from tests.contract.backends import ECHO, stage
from tests.router.fakes import eventually


class Pods:
    """Pods by address; those in `sick` do not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sick: set[str] = set()

    async def warm(self, address: str, _staged: StagedVersion) -> None:
        self.asked.append(address)
        await asyncio.sleep(0)
        if address in self.sick:
            raise BackendError("it does not answer")


@pytest.fixture
def staged(tmp_path: Path) -> StagedVersion:
    return stage(tmp_path, "echo", 1, {"model.py": ECHO})


async def test_a_new_pod_is_asked_once_and_counts_then(staged: StagedVersion) -> None:
    pods = Pods()
    warmth = PodWarmth(pods.warm)
    assert warmth.count("m", {"a": "1"}) is None
    assert not warmth.knows_any
    warmth.warmed("m", staged, {"a": "1", "b": "2"})
    assert warmth.count("m", {"a": "1", "b": "2"}) == 2
    assert warmth.count("m", {"a": "1", "c": "3"}) == 1
    assert warmth.count("m", {"a": "1", "c": "3"}) == 1
    await eventually(lambda: warmth.count("m", {"a": "1", "c": "3"}) == 2)
    assert pods.asked == ["3"]
    assert warmth.count("m", {}) == 0
    warmth.forget("m")
    assert warmth.count("m", {"a": "1"}) is None
    await warmth.close()


async def test_who_does_not_answer_is_asked_again_later(
    staged: StagedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = Pods()
    warmth = PodWarmth(pods.warm)
    warmth.warmed("m", staged, {})
    pods.sick.add("1")
    assert warmth.count("m", {"a": "1"}) == 0
    await eventually(lambda: pods.asked == ["1"])
    for _ in range(5):
        assert warmth.count("m", {"a": "1"}) == 0
        await asyncio.sleep(0)
    assert pods.asked == ["1"]
    await warmth.close()  # while it waits
    monkeypatch.setattr(kube_warmth, "RETRY_S", 0.0)
    pods.sick.clear()
    assert warmth.count("m", {"a": "1"}) == 0
    await eventually(lambda: warmth.count("m", {"a": "1"}) == 1)
    await warmth.close()
