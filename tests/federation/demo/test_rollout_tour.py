"""The tour of rollouts, against a control plane and a load that say what they are told to."""

import io
from typing import Any, cast

import pytest

from federation.contract.errors import Conflict, Unavailable
from federation.demo.load import Load
from federation.demo.load_stats import Outcome
from federation.demo.models import Fault
from federation.demo.operator_api import OperatorApi
from federation.demo.rollout_tour import MODEL, Tour, TourOptions
from federation.demo.screen import Screen

REGIONS = ["eu-west", "us-east", "us-west", "ap"]
OVER = {"over": True, "wave": 1, "of_waves": 3, "weights": {}, "reason": "why", "verdict": None}


class Api:
    """Answers rollouts with the phases given; `version` is what each deployment is routed to."""

    def __init__(self, *phases: str) -> None:
        self.phases = list(phases)
        self.version: dict[str, int] = {}
        self.started: list[Any] = []
        self.aborted: list[str] = []
        self.pushed = 2

    async def put(self, kind: str, plural: str, name: str, spec: dict[str, Any]) -> None:
        assert (kind, plural) == ("Deployment", "deployments")
        self.version[name] = spec["version"]

    async def one(self, plural: str, name: str) -> Any:
        if plural == "deployments":
            return {"status": {"routed_version": self.version[name]}}
        phase = self.phases[len(self.started) - 1]
        return {"status": {**OVER, "phase": phase, "over": phase != "paused"}}

    async def start_rollout(self, spec: dict[str, Any]) -> Any:
        if spec["model"] == "filetype" and "allow_signature_change" not in spec["strategy"]:
            raise Conflict("the signature differs.")
        self.started.append(spec)
        return {"metadata": {"name": f"{spec['model']}-{len(self.started)}"}}

    async def abort_rollout(self, name: str) -> None:
        self.aborted.append(name)

    async def push(self, _directory: object, _source: str) -> int:
        self.pushed += 1
        return self.pushed


class Answers:
    """A load of which everything was answered by version 2, most of it in us-west."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._now_s = 0.0

    def elapsed_s(self) -> float:
        self._now_s += 10.0
        for region in ("eu-west", "us-west", "us-west"):
            due_s = self._now_s + 1.0
            self.outcomes.append(
                Outcome(
                    due_s=due_s,
                    latency_s=0.1,
                    kind="k",
                    continent="c",
                    region=region,
                    version="2",
                )
            )
        return self._now_s

    async def run(self, _rate: float, _going: object) -> None:
        self.elapsed_s()


def make(api: Api, *faults: Fault) -> tuple[Tour, io.StringIO]:
    out = io.StringIO()
    options = TourOptions(faults=faults, bake_s=5.0, limit_s=0.0)
    load = cast("Load", Answers())
    return Tour(cast("OperatorApi", api), load, REGIONS, options, Screen(out)), out


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.demo.rollout_tour._POLL_S", 0.0)
    monkeypatch.setattr("federation.demo.rollout_tour._STALE_S", 0.0)


async def test_everything_as_it_should_be() -> None:
    api = Api("promoted", "promoted", "rolled-back")
    tour, out = make(api, Fault.SLOW)
    await tour.play()
    assert tour.finish() == 0, out.getvalue()
    assert "8 of 8 checks passed" in out.getvalue()
    strategy = api.started[1]["strategy"]
    assert [wave["regions"] for wave in strategy["waves"]] == [
        ["eu-west"],
        ["us-east", "us-west"],
        ["*"],
    ]
    assert api.started[2]["strategy"]["waves"][0] == {"regions": ["us-west"]}
    assert api.version == {MODEL: 2, "filetype": 2}


async def test_a_bad_version_that_is_promoted_is_a_failure() -> None:
    tour, out = make(Api("promoted", "promoted", "promoted"), Fault.WRONG)
    await tour.play()
    assert tour.finish() == 1
    assert "FAILED   a wrong version" in out.getvalue()


async def test_one_that_never_ends_is_aborted() -> None:
    api = Api("promoted", "paused")
    tour, out = make(api)
    await tour.play()
    assert tour.finish() == 1
    assert api.aborted == [f"{MODEL}-2"]
    assert "in vain" in out.getvalue()


async def test_a_control_plane_that_is_away_is_asked_again() -> None:
    api = Api("promoted", "promoted")
    tour, _ = make(api)
    asked = 0
    one = api.one

    async def away_at_first(plural: str, name: str) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable("it restarts.")
        return await one(plural, name)

    api.one = away_at_first  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="in vain"):
        await tour.play()  # no patience at all: the first answer is the last
