from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from federation.api.metrics_rollouts import present, rollout_families
from federation.api.rollout_journal import RolloutJournal
from federation.policy.rollouts.records import Pause, Phase
from federation.policy.state import State
from federation.publisher import Publisher
from tests.federation.policy.rollouts.test_next_words import AT, RECORD, at

WEIGHED = (replace(RECORD.waves[0], weight=25.0), RECORD.waves[1])


def families(state: State) -> dict[str, dict[tuple[str, ...], float]]:
    loop: Any = SimpleNamespace(state=state)
    journal = RolloutJournal(loop, Publisher())
    found = rollout_families(state, journal, AT + timedelta(seconds=7))
    return {f.name: {tuple(s.labels.values()): s.value for s in f.samples} for f in found}


def test_a_rollout_that_goes_on() -> None:
    state = State(rollouts={"m-2": at(Phase.PAUSED, waves=WEIGHED, pause=Pause.INCONCLUSIVE)})
    told = families(state)
    assert told["fed_rollout_phase"] == {("m", "paused", "inconclusive"): 1}
    assert told["fed_rollout_phase_seconds"] == {("m", "paused"): 7.0}
    assert told["fed_rollout_weight_ratio"] == {("m", "eu"): 0.25}
    assert told["fed_rollout_transitions"]["judged bad", "rolling-back"] == 0
    assert told["fed_rollout_verdicts"] == {("pass",): 0, ("fail",): 0, ("inconclusive",): 0}


def test_what_is_over_has_no_time_and_no_traffic() -> None:
    told = families(State(rollouts={"m-2": at(Phase.PROMOTED, waves=WEIGHED)}))
    assert told["fed_rollout_phase"] == {("m", "promoted", ""): 1}
    assert told["fed_rollout_phase_seconds"] == {}
    assert told["fed_rollout_weight_ratio"] == {}


def test_a_model_has_one_series() -> None:
    later = replace(RECORD.meta, created_at=AT + timedelta(seconds=1), name="m-3")
    waits = at(Phase.PENDING, meta=later)
    state = State(rollouts={"m-2": at(Phase.BAKING), "m-3": waits})
    assert present(state)["m"].phase is Phase.BAKING
    state.rollouts["m-2"] = at(Phase.PROMOTED)
    assert present(state)["m"].phase is Phase.PENDING
    state.rollouts["m-3"] = at(Phase.FAILED, meta=later)
    assert present(state)["m"].phase is Phase.FAILED
