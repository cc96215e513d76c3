from dataclasses import FrozenInstanceError

import pytest

from federation.contract.rollout import (
    AnalysisSpec,
    CanaryRoute,
    OnInconclusive,
    RolloutStrategy,
    VersionCounts,
)


def test_without_a_word_a_rollout_is_careful() -> None:
    strategy = RolloutStrategy()
    assert list(strategy.steps) == sorted(strategy.steps)
    assert strategy.steps[-1] == 100
    assert strategy.bake_s > 0
    assert not strategy.in_place
    assert not strategy.allow_signature_change
    analysis = AnalysisSpec()
    assert analysis.enabled
    assert analysis.on_inconclusive is OnInconclusive.PAUSE
    assert analysis.max_bake_s > strategy.bake_s


def test_a_region_that_is_not_named_gives_a_canary_nothing() -> None:
    assert CanaryRoute(rollout="r", version=2).weights == {}
    assert VersionCounts(model="m", version=1, region="eu").requests == ()


def test_values_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        RolloutStrategy().bake_s = 1.0  # type: ignore[misc]
