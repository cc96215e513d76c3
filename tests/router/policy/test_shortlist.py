import random

from federation.contract.types import Endpoint
from router.policy.lanes import Lane, Place
from router.policy.shortlist import SHORT, Option, Shortlist

NOW_S = 5.0


def options(count: int) -> list[Option]:
    made = []
    for i in range(count):
        option = Option(
            Endpoint(cluster=f"c{i}", region="eu", url=""), Lane(Place(f"c{i}")), 1.0, 0
        )
        option.rtt_ms = option.way_ms = float(i)
        made.append(option)
    random.Random(1).shuffle(made)
    return made


def test_the_best_of_many_are_kept() -> None:
    short = Shortlist(None, options(50))
    short.admit(list(short.options), 1, NOW_S)
    assert [o.cluster for o in short.best] == [f"c{i}" for i in range(SHORT)]
    assert short.home_ms == 0.0
    short.best[0].lane.service_ms = 1000.0
    short.order(NOW_S)
    assert [o.cluster for o in short.best] == [f"c{i + 1}" for i in range(SHORT)]
    assert repr(short) == f"Shortlist({SHORT} of 50)"


def test_few_are_all_kept_and_many_are_looked_at_less_often() -> None:
    few, many = Shortlist(None, options(3)), Shortlist(None, options(1000))
    for short in (few, many):
        short.admit(list(short.options), 1, NOW_S)
    assert len(few.best) == 3
    assert few.ordered_until_s < many.ordered_until_s <= NOW_S + 0.1
    assert few.fresh_until_s < many.fresh_until_s <= NOW_S + 1.0


def test_counts_for_shares_do_not_grow_for_ever() -> None:
    short = Shortlist(None, options(3))
    short.picks = 1000
    short.options[0].lane.picks = 600
    short.admit(list(short.options), 1, NOW_S)
    assert (short.picks, short.options[0].lane.picks) == (500, 300)
