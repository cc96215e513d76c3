import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.reversing import Plan, Stock, StockLimits, Supply

LIMITS = StockLimits()


def supply(limits: StockLimits = LIMITS, seed: int = 1) -> Supply:
    return Supply(dice=random.Random(seed), limits=limits)


class World:
    """A router that takes dials in, or not, and requests that come and go."""

    def __init__(self, limits: StockLimits = LIMITS, seed: int = 1) -> None:
        self.supply = supply(limits, seed)
        self.limits = limits
        self.stock = Stock()
        self.now = 0.0
        self.dials: list[float] = []
        self._dialled: list[float] = []

    def step(self, plan: Plan | None = None) -> Plan:
        plan = plan or self.supply.decide(self.stock, self.now)
        s = self.stock
        assert 0 <= plan.dial <= self.limits.dialling - s.dialling
        assert 0 <= plan.give_up <= s.idle
        assert 0 <= plan.give_up_old <= s.old
        assert s.total + plan.dial <= max(self.limits.ceiling, s.total)
        self.dials += [self.now] * plan.dial
        self._dialled += [self.now] * plan.dial
        self.stock = replace(
            s,
            idle=s.idle - plan.give_up,
            old=s.old - plan.give_up_old,
            dialling=s.dialling + plan.dial,
        )
        return plan

    def land(self, count: int) -> None:
        """Some dials succeed."""
        count = min(count, self.stock.dialling)
        del self._dialled[:count]
        s = self.stock
        self.stock = replace(s, dialling=s.dialling - count, idle=s.idle + count)
        if count:
            self.supply.opened()

    def fail(self, *, refused: bool) -> None:
        """All dials fail."""
        for dialled_s in self._dialled:
            self.supply.failed(dialled_s=dialled_s, now=self.now, refused=refused)
        self._dialled.clear()
        self.stock = replace(self.stock, dialling=0)

    def load(self, busy: int) -> None:
        """So many requests run now, as far as there are connections."""
        s = self.stock
        move = max(-s.busy, min(busy - s.busy, s.idle))
        self.stock = replace(s, idle=s.idle - move, busy=s.busy + move)

    def settle(self, busy: int, seconds: float = 0.0) -> None:
        """Dials succeed at once until nothing changes."""
        end = self.now + seconds
        while True:
            self.load(busy)
            plan = self.step()
            self.land(self.stock.dialling)
            if not (plan.dial or plan.give_up or plan.give_up_old):
                if plan.again_s > end:
                    break
                self.now = max(self.now, plan.again_s)


def test_four_are_idle_from_the_start() -> None:
    world = World()
    assert world.step().dial == 4
    assert world.step().dial == 0  # they are on their way
    world.land(4)
    assert world.step() == Plan()


@pytest.mark.parametrize(
    ("busy", "idle"), [(1, 4), (8, 4), (9, 5), (100, 50), (170, 85), (171, 85)]
)
def test_the_stock_grows_with_the_load_up_to_the_ceiling(busy: int, idle: int) -> None:
    world = World()
    world.settle(busy)
    assert (world.stock.busy, world.stock.idle) == (busy, idle)
    assert world.stock.total <= LIMITS.ceiling


def test_requests_that_wait_at_the_router_are_dialled_for() -> None:
    one = supply()
    assert one.decide(Stock(busy=4, waiting=10), 0.0).dial == 14
    assert one.decide(Stock(busy=4, waiting=1000), 0.0).dial == LIMITS.dialling
    assert one.decide(Stock(busy=250, waiting=1000), 0.0).dial == 6
    assert one.decide(Stock(busy=4, waiting=10, dialling=14), 0.0).dial == 0


def test_a_surplus_is_given_up_slowly_and_not_before_it_lasted() -> None:
    world = World()
    world.settle(100)
    world.load(0)
    assert world.stock.idle == 150
    began = world.step()
    assert (began.give_up, began.again_s) == (0, LIMITS.surplus_s)
    world.now = LIMITS.surplus_s - 0.1
    assert world.step().give_up == 0
    world.now = LIMITS.surplus_s
    first = world.step()
    assert (first.give_up, first.again_s) == (19, world.now + LIMITS.shrink_s)
    assert world.step().give_up == 0
    world.settle(0, seconds=600)
    assert world.stock.idle == LIMITS.idle
    assert world.now > LIMITS.surplus_s + 10 * LIMITS.shrink_s
    assert len(world.dials) < 170  # nothing was dialled again on the way


def test_a_new_load_ends_the_surplus() -> None:
    world = World()
    world.settle(100)
    world.load(0)
    world.step()
    world.now = LIMITS.surplus_s - 1
    world.load(100)
    world.step()
    world.load(0)
    world.now = LIMITS.surplus_s + 1
    assert world.step().give_up == 0


def test_old_ones_stay_until_they_are_replaced() -> None:
    one = supply()
    plan = one.decide(Stock(old=6, busy=2), 0.0)
    assert (plan.dial, plan.give_up_old) == (4, 0)
    assert one.decide(Stock(old=6, busy=2, idle=3, dialling=1), 0.0).give_up_old == 0
    assert one.decide(Stock(old=6, busy=2, idle=4), 0.0).give_up_old == 6


def test_old_ones_make_room_at_the_ceiling() -> None:
    plan = supply().decide(Stock(old=100, busy=156), 0.0)
    assert (plan.dial, plan.give_up_old) == (0, 78)


def test_a_router_that_left_the_list_keeps_what_is_busy() -> None:
    one = supply()
    one.wanted = False
    assert one.decide(Stock(idle=3, old=2, busy=5, waiting=9), 0.0) == Plan(
        give_up=3, give_up_old=2
    )


def test_an_unreachable_router_is_tried_one_by_one_and_found_again_within_a_second() -> None:
    world = World()
    world.step()
    world.fail(refused=False)
    assert world.supply.failures == 1  # four dials, one finding
    while world.now < 60:
        plan = world.step()
        if not plan.dial:
            assert world.now < plan.again_s <= world.now + 1.0
            world.now = plan.again_s
        else:
            assert plan.dial == 1
            world.fail(refused=False)
    assert 60 <= len(world.dials) <= 240
    world.now += 1.0
    assert world.step().dial == 1
    world.land(1)
    assert world.step().dial == 3  # reached: the rest follows at once


def test_a_router_that_refuses_is_asked_ever_more_seldom() -> None:
    world = World()
    world.step()
    world.fail(refused=True)
    while world.now < 600:
        plan = world.step()
        if plan.dial:
            assert plan.dial == 1
            world.supply.opened()  # the handshake succeeds, the refusal follows
            world.fail(refused=True)
        else:
            world.now = plan.again_s
    assert len(world.dials) < 130
    assert repr(world.supply).startswith("Supply(wanted, failures=")
    world.now += 10.0
    world.step()
    world.land(1)
    assert world.step().dial == 0  # not known yet to be accepted
    world.supply.forgive()
    assert world.step().dial == 1  # with another certificate
    world.fail(refused=True)
    assert world.step().dial == 0
    world.supply.proved()
    assert world.step().dial == 3


@given(st.data())
def test_never_above_the_ceiling_never_a_storm_and_it_converges(data: st.DataObject) -> None:
    limits = StockLimits(
        idle=data.draw(st.integers(1, 8)),
        ceiling=data.draw(st.integers(8, 64)),
        dialling=data.draw(st.integers(1, 16)),
    )
    world = World(limits, seed=data.draw(st.integers(0, 99)))
    for _ in range(data.draw(st.integers(0, 40))):
        world.now += data.draw(st.floats(0.01, 20))
        match data.draw(st.sampled_from(["land", "fail", "load", "lose", "age", "wait", "prove"])):
            case "land":
                world.land(data.draw(st.integers(0, 16)))
            case "fail":
                before = len(world.dials)
                dialled = world.stock.dialling
                world.fail(refused=data.draw(st.booleans()))
                world.step()
                assert not dialled or len(world.dials) == before  # the backoff is respected
            case "load":
                world.load(data.draw(st.integers(0, 80)))
            case "lose":
                world.stock = replace(world.stock, idle=0)
            case "age":
                world.stock = replace(world.stock, idle=0, old=world.stock.old + world.stock.idle)
            case "wait":
                world.stock = replace(world.stock, waiting=data.draw(st.integers(0, 99)))
            case _:
                world.supply.proved()
        world.step()  # asserts the bounds
        assert world.stock.total <= limits.ceiling
    busy = data.draw(st.integers(0, limits.ceiling))
    world.stock = replace(world.stock, waiting=0)
    world.land(world.stock.dialling)
    world.supply.proved()
    world.settle(busy, seconds=10_000)
    s = world.stock
    assert s.dialling == s.old == 0 or s.total == limits.ceiling
    assert s.idle >= min(world.supply.target(s), limits.ceiling - s.busy - s.old)
    assert s.idle <= world.supply.target(s)


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=200), st.integers(0, 99))
def test_no_dial_before_the_backoff_ended(tries: list[tuple[float, bool]], seed: int) -> None:
    world = World(seed=seed)
    world.step()
    world.fail(refused=True)
    for wait_s, refused in tries:
        allowed_s = world.supply.decide(Stock(), world.now).again_s
        world.now += wait_s
        plan = world.step()
        assert plan.dial == (1 if world.now >= allowed_s else 0)
        if plan.dial:
            world.fail(refused=refused)
