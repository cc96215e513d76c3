import asyncio
import random
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from edge_agent.gateway.flights import Flights, FlightsCollector


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2)), max_size=12))
async def test_counts_are_what_is_inside_and_nothing_stays(keys: list[tuple[str, int]]) -> None:
    flights = Flights()
    with ExitStack() as inside:
        for key in keys:
            inside.enter_context(flights.enter(key))
        assert flights.counts() == {key: keys.count(key) for key in keys}
    assert flights.counts() == {}
    assert flights.begun == len(keys)


@pytest.mark.parametrize("seed", range(5))
async def test_errors_and_cancellations_at_any_moment_leak_nothing(seed: int) -> None:
    dice, flights = random.Random(seed), Flights()

    async def request(key: tuple[str, int]) -> None:
        with flights.enter(key):
            await asyncio.sleep(dice.random() / 50)
            if dice.random() < 0.3:
                raise ConnectionError

    tasks = [asyncio.create_task(request(("m", dice.randint(1, 3)))) for _ in range(100)]
    for task in dice.sample(tasks, 40):
        await asyncio.sleep(dice.random() / 500)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert flights.counts() == {}
    assert await flights.landed(0)


async def test_landed_waits_for_the_last_one() -> None:
    flights = Flights()
    assert await flights.landed(0)
    with flights.enter(("m", 1)):
        assert not await flights.landed(0.01)
        waiter = asyncio.create_task(flights.landed(1))
        await asyncio.sleep(0)
        with flights.enter(("m", 2)):
            pass
        await asyncio.sleep(0)
        assert not waiter.done()
    assert await waiter


async def test_metrics_and_repr_show_what_is_inside() -> None:
    flights, registry = Flights(), CollectorRegistry()
    registry.register(FlightsCollector(flights))
    with flights.enter(("m", 1)), flights.enter(("m", 1)):
        assert repr(flights) == "Flights(m@1: 2)"
        page = generate_latest(registry).decode()
    assert 'fed_gateway_in_flight{model="m",version="1"} 2.0' in page
    assert "m" not in repr(flights).removeprefix("Flights(")
    assert 'model="m"' not in generate_latest(registry).decode()
