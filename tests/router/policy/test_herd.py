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


def p99(outcome: Outcome) -> float:
    return sorted(outcome.took)[int(len(outcome.took) * 0.99)]


def test_twenty_routers_with_news_a_second_old_stay_near_the_optimum() -> None:
    """Where they swung between clusters, queues would build up: the p99 shows it first."""
    calm = Scenario(antagonists=False)
    ours, best = (through(twenty(), calm, load=0.8, oracle=o) for o in (False, True))
    assert ours.failed == 0
    assert mean(ours) <= 1.10 * mean(best)
    assert p99(ours) <= 1.10 * p99(best)


def test_when_a_region_dies_no_survivor_gets_more_than_it_takes() -> None:
    """No more than it declares to take, and no longer queues than who sees all of them makes."""
    fleet, lost = fleets()["five"], Scenario(region_loss=True, antagonists=False)
    ours, best = (through(fleet, lost, load=0.6, oracle=o) for o in (False, True))
    assert ours.fullest <= min(1.25 * best.fullest, 1.0)
    assert ours.failed == 0
    assert ours.refused == 0, "routers know when a cluster is full before it must say so"


def test_a_lying_cluster_gets_no_more_than_its_share() -> None:
    outcome = through(fleets()["five"], Scenario(liars=0.03), load=0.7)
    assert outcome.share <= 1 / 40  # it is one of forty, which says to be ten of them
    assert outcome.failed == 0
