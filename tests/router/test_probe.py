import asyncio

from router.policy import table as tables
from router.policy.breaker import BreakerState
from router.probe import Probed, Prober, ProbeTimes, read_loads
from tests.fakes.fault_proxy import BLACK_HOLE, fault_proxy
from tests.router.fakes import eventually, gateways, make_snapshot, router_for

FAST = ProbeTimes(interval_s=0.1, again_s=0.05, patience_s=0.5)


async def test_the_way_is_measured_without_the_cost_of_connecting() -> None:
    async with gateways("eu-1") as fakes, router_for({"eu-1": fakes["eu-1"].url}) as router:
        fakes["eu-1"].health_delay_s = 0.05
        prober = Prober(state=router.state, upstreams=router.upstreams)
        table = router.state.require_table()
        probed = await prober.probe(table.endpoints["eu-1"], discard=True)
        assert probed.problem == ""
        assert probed.rtt_ms is not None
        assert 45 <= probed.rtt_ms < 1000
        assert fakes["eu-1"].live_checks == 1


async def test_a_dead_cluster_is_ejected_and_comes_back_by_probe_and_one_request() -> None:
    async with gateways("eu-1") as fakes:
        fake = fakes["eu-1"]
        async with router_for({"eu-1": fake.url}, times=FAST) as router:
            state, signals = router.state, router.state.signals

            def breaker() -> BreakerState:
                return signals.health("eu-1", state.clock.monotonic_s())[0]

            await eventually(lambda: state.health()["eu-1"][0] is not None)
            await fake.kill()
            await eventually(lambda: breaker() is BreakerState.OPEN)
            assert "connect" in state.health()["eu-1"][2].lower()
            await fake.start()
            await eventually(lambda: breaker() is BreakerState.HALF_OPEN, within_s=10)
            assert (await router.infer())[0] == 200
            assert breaker() is BreakerState.CLOSED


async def test_a_gateway_that_is_not_ready_is_ejected_but_its_requests_are_left_alone() -> None:
    async with gateways("eu-1") as fakes:
        fake = fakes["eu-1"]
        async with router_for({"eu-1": fake.url}, times=FAST) as router:
            fake.delay_s = 0.6
            waiting = asyncio.get_running_loop().create_task(router.infer())
            await eventually(lambda: fake.inferences == 1)
            fake.ready = False
            await eventually(lambda: not router.state.health()["eu-1"][1])
            assert "not ready (503)" in router.state.health()["eu-1"][2]
            assert not waiting.done()
            assert (await waiting)[0] == 200
            assert fake.inferences == 1


async def test_a_cluster_that_vanishes_under_a_request_is_probed_at_once_and_given_up() -> None:
    """Not with the next round, which is far away here; what waits for it goes elsewhere."""
    times = ProbeTimes(interval_s=60.0, again_s=60.0, jitter=0.0, quiet_s=0.1, hurry_s=0.2)
    async with gateways("eu-1", "us-1") as fakes:
        there = fakes["eu-1"].url.rpartition(":")
        async with fault_proxy("127.0.0.1", int(there[2])) as proxy:
            urls = {"eu-1": f"http://127.0.0.1:{proxy.port}", "us-1": fakes["us-1"].url}
            async with router_for(urls, times=times) as router:
                state, signals = router.state, router.state.signals
                await eventually(lambda: all(h[0] is not None for h in state.health().values()))
                await asyncio.sleep(times.quiet_s)  # nobody is probed again sooner
                signals.place("us-1").rtt.ms = 500.0
                await proxy.become(BLACK_HOLE)
                async with asyncio.timeout(10):
                    status, told, _ = await router.infer()
                assert (status, told["x-fed-cluster"]) == (200, "us-1")
                assert fakes["eu-1"].inferences == 0


async def test_a_router_that_is_too_busy_to_tell_excuses_a_cluster_once() -> None:
    async with gateways("eu-1") as fakes, router_for({"eu-1": fakes["eu-1"].url}) as router:
        prober = Prober(state=router.state, upstreams=router.upstreams, times=FAST)
        seen = []

        async def late(*_: object, **__: object) -> Probed:
            seen.append(router.state.health()["eu-1"][1])
            return Probed(problem="nothing within 1 s", silent=True, late=True)

        prober.probe = late  # type: ignore[method-assign]
        running = asyncio.get_running_loop().create_task(prober.run())
        try:
            await eventually(lambda: not router.state.health()["eu-1"][1])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert len(seen) == 4  # of four bad ones, two counted


async def test_probing_follows_the_table() -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for({}, times=FAST) as router:
        state = router.state
        state.swap(tables.build(make_snapshot({"eu-1": fakes["eu-1"].url}, version=2)))
        await eventually(lambda: state.health()["eu-1"][0] is not None)
        both = {name: fake.url for name, fake in fakes.items()} | {"bad-1": "nonsense"}
        state.swap(tables.build(make_snapshot(both, version=3)))
        await eventually(lambda: state.health()["us-1"][0] is not None)
        state.swap(tables.build(make_snapshot({"eu-1": fakes["us-1"].url}, version=4)))
        assert state.health()["eu-1"][0] is None
        await fakes["eu-1"].kill()
        await eventually(lambda: state.health()["eu-1"][0] is not None)
        await asyncio.sleep(0.3)
        assert state.health() == {"eu-1": (state.health()["eu-1"][0], True, "")}


def test_the_loads_that_a_gateway_tells() -> None:
    told = b'{"ready": true, "load": {"m@2": 3, "odd@name@1": 1, "m": 4, "m@x": 5, "m@3": -1}}'
    assert read_loads(told) == {("m", 2): 3, ("odd@name", 1): 1}
    for odd in (b"", b"{}", b"[]", b'{"load": [1]}', b"ok", b'{"load": {"m@1": "many"}}'):
        assert read_loads(odd) is None
