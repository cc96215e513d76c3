"""The real decisions of many agents on a virtual clock: what the origin sends, when all are done.

20 agents in 2 regions; regions share nothing but the origin, so each is a world of its own.
`FED_TEST_SEEDS` is how often each is run; `FED_TEST_SWARM=200` is how many agents are in a large
region: with 200 each of its cases takes a minute or two.
"""

import os
from dataclasses import replace

import pytest

from tests.edge_agent.policy.swarm_world import GBIT, Result, Setup, World

SEEDS = range(1, 1 + int(os.environ.get("FED_TEST_SEEDS", "1")))
MANY = int(os.environ.get("FED_TEST_SWARM", "20"))
WHOLE = Setup(agents=10, pieces=128, piece_bytes=8 * 2**20)
REGION = WHOLE if len(SEEDS) > 1 else replace(WHOLE, agents=8, pieces=96)
# As `python -m benchmarks.sync` has them on real sockets.
FEW = Setup(agents=5, pieces=16, link_rate=6e6, origin_rate=6e6)
SOME = Setup(agents=10, pieces=64, link_rate=16e6, origin_rate=16e6)
SETUPS = {
    "equal": REGION,
    "one dead, one slow": replace(REGION, dead=1, slow=1),
    "begin within a second": replace(REGION, stagger_s=1.0),
    "origin at a quarter": replace(REGION, origin_rate=GBIT / 4, pieces=64),
    "origin at a hundredth": replace(REGION, origin_rate=GBIT / 100, pieces=24, agents=4),
    "split view": replace(REGION, blind=4, hidden=1),
    "split view, few pieces": replace(FEW, blind=2, hidden=1),
    "lists come within two seconds": replace(REGION, lag_s=2.0, pieces=64),
    "one of two has a slow uplink": replace(REGION, agents=2, slow=1),
    "few pieces, one of two has a slow uplink": replace(FEW, agents=2, slow=1),
    "one lies": replace(REGION, liars=1),
    "three behind NAT": replace(REGION, behind_nat=3),
    "one of two dies": replace(REGION, agents=2, dead=1),
    "alone": replace(REGION, agents=1),
    "few pieces": FEW,
    "few pieces, one dead": replace(FEW, dead=1),
    "few pieces, one has a slow link": replace(FEW, slow=1, slow_down=True),
    "few pieces, one of two has a slow link": replace(FEW, agents=2, slow=1, slow_down=True),
    "one has a slow link": replace(SOME, slow=1, slow_down=True),
    "one has a slow uplink": replace(SOME, slow=1),
    "few pieces, one has a slow uplink": replace(FEW, slow=1),
    "few pieces, one of three has a slow uplink": replace(FEW, agents=3, slow=1),
}
LATE = {
    "a quarter late": replace(REGION, late=3),
    "a quarter late, origin slow": replace(REGION, late=3, origin_rate=GBIT / 4, pieces=64),
    "a quarter very late": replace(REGION, late=3, late_s=9.0),
}


def run(setup: Setup) -> list[Result]:
    results = [World(replace(setup, seed=seed)).run() for seed in SEEDS]
    for result in results:
        assert result.unfinished == []
        assert result.torn == []
    return results


@pytest.mark.parametrize("name", SETUPS)
def test_a_region_fetches_once(name: str) -> None:
    # Of few pieces one may come twice, and a part of one be given up.
    most = max(1.05, 1 + 1.2 / SETUPS[name].pieces)
    for result in run(SETUPS[name]):
        assert result.egress <= most, result
        assert result.last <= 2.5, result


@pytest.mark.parametrize("name", LATE)
def test_late_ones_cost_little(name: str) -> None:
    for result in run(LATE[name]):
        assert result.egress <= 1.15, result
        assert result.last <= 2.5, result


def test_when_nobody_can_be_dialled_each_fetches_for_itself() -> None:
    result = World(replace(REGION, agents=3, behind_nat=3, pieces=16)).run()
    assert result.unfinished == []
    assert result.egress == 3.0


def test_the_simulation_can_fail() -> None:
    """Where everybody is blind to everybody, the origin sends everything to each."""
    result = World(replace(REGION, agents=4, blind=4, hidden=4, pieces=16)).run()
    assert result.egress == 4.0


MANY_SETUPS: list[dict[str, int]] = [{"dead": 2, "slow": 2}]
if MANY >= 100:
    MANY_SETUPS += [{}, {"late": MANY // 4}]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("setup", MANY_SETUPS, ids=str)
def test_many(setup: dict[str, int]) -> None:
    region = replace(WHOLE, agents=MANY)
    result = World(replace(region, **setup)).run()  # type: ignore[arg-type]
    assert result.unfinished == []
    assert result.egress <= (1.15 if "late" in setup else 1.05), result
    assert result.last <= 2.5, result
