"""Many routers that know little of each other, in the benchmark's model with the real decision."""

from benchmarks.policy.inputs import Fleet, Site, fleets
from benchmarks.policy.ours import Ours
from benchmarks.policy.rivals import Oracle
from benchmarks.policy.world import Outcome, Scenario, run


def twenty() -> Fleet:
    """Twenty routers far apart, eight clusters in four of their regions."""
    regions = fleets()["edge"].regions[:40:2]
    sites = tuple(Site(5 * (i % 4), 16, 1.0 if i < 4 else 0.6) for i in range(8))
    return Fleet("twenty", regions, (0.05,) * 20, sites)


def through(fleet: Fleet, scenario: Scenario, *, load: float, oracle: bool = False) -> Outcome:
    make = Oracle if oracle else Ours
    return run(make, fleet, scenario, trace="tensor", load=load, count=5000, seed=3, oracle=oracle)


def mean(outcome: Outcome) -> float:
    return sum(outcome.took) / len(outcome.took)


def test_twenty_routers_with_news_a_second_old_stay_near_the_optimum() -> None:
    calm = Scenario(antagonists=False)
    ours, best = (through(twenty(), calm, load=0.8, oracle=o) for o in (False, True))
    assert ours.failed == 0
    assert mean(ours) <= 1.10 * mean(best)


def test_when_a_region_dies_no_survivor_gets_more_than_it_takes() -> None:
    fleet = fleets()["five"]
    outcome = through(fleet, Scenario(region_loss=True, antagonists=False), load=0.6)
    assert outcome.fullest <= 1.0
    assert outcome.failed == 0
    assert outcome.refused == 0, "routers know when a cluster is full before it must say so"


def test_a_lying_cluster_does_not_attract_everything() -> None:
    outcome = through(fleets()["five"], Scenario(liars=0.03), load=0.7)
    assert outcome.share <= 0.10  # of forty clusters one liar has half of a fair share too much
    assert outcome.failed == 0
