"""Late requests at two clusters at once, over real sockets."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from router.policy import hedging
from router.policy.hedging import LEAST_S, NEVER_S, SHARE, Late
from router.policy.shortlist import Option, Shortlist
from router.request.hedge import Hedges
from tests.router.fakes import Fault, eventually, hang, refuse, reset
from tests.router.late import LATE_S, WARM, after, counted, late_world, who
from tests.router.request.test_quick import Client

ASKED_EACH = 6
HEDGES = 'fed_router_hedges_total{outcome="%s"}'


async def test_a_late_request_is_answered_by_another_region_and_the_loser_is_cancelled() -> None:
    async with late_world("eu-1", "eu-2", "us-1") as (router, fakes):
        fakes["eu-1"].fault = hang
        async with asyncio.timeout(5):
            status, told, body = await router.infer(headers={"x-request-id": "late-1"})
        assert (status, who(body)) == (200, "us-1")
        assert (told["x-fed-cluster"], told["x-fed-region"]) == ("us-1", "us")
        assert (told["x-fed-attempts"], told["x-fed-hedged"]) == ("2", "won")
        async with asyncio.timeout(5):
            await fakes["eu-1"].cancelled.wait()
        assert [fake.inferences for fake in fakes.values()] == [1, 0, 1]
        assert counted(router, HEDGES % "won") == 1
        why = str(router.state.records.tell("late-1", "test", router.state.clock)["why"])
        assert "so us-1 was asked too: it answered first" in why
        assert "failed" not in why
        assert "ejected" not in repr(router.state.signals)
        assert router.state.budget.is_calm(router.state.clock.monotonic_s())


async def test_the_short_way_hands_a_late_request_over(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    wait_s = Hedges.wait_s

    def look(hedges: Hedges, short: Shortlist, late: Late) -> float:
        looks.append(wait_s(hedges, short, late))
        return looks[-1]

    monkeypatch.setattr(Hedges, "wait_s", look)  # only the short way asks this
    async with late_world("eu-1", "us-1") as (router, fakes), Client(router.url) as client:
        await client.ask()
        await client.ask()
        fakes["eu-1"].fault = hang
        answer = await client.ask()
        assert looks[-1] == 0.0
        assert b"\r\nx-fed-hedged: won\r\n" in answer
        assert b'"us-1"' in answer
        fakes["eu-1"].fault = None
        answer = await client.ask()  # on the same connection: there was one answer
        assert b"200 OK" in answer
        assert b"x-fed-hedged" not in answer
        await eventually(lambda: fakes["eu-1"].cancelled.is_set())
        assert fakes["us-1"].inferences <= 2


async def test_what_is_late_is_learned() -> None:
    """With nothing made up: a p95 of its own answers, and the budget of two in a hundred."""
    async with late_world("eu-1", "us-1", share=SHARE, after_s=NEVER_S) as (router, fakes):
        async with Client(router.url) as client:
            for _ in range(150):
                await client.ask()
            resolved = router.state.require_table().resolve("digits")
            router.state.hedging.pace(resolved).until_s = 0.0
            assert b"x-fed-cluster: eu-1" in await client.ask()
            assert LEAST_S <= router.state.hedging.pace(resolved).after_s < 1.0
            fakes["eu-1"].fault = hang
            answer = await client.ask(b"x-request-id: late\r\n")
        assert b"x-fed-hedged: won" in answer
        told = router.state.records.tell("late", "r", router.state.clock)
        assert "eu-1 had not answered after" in str(told["why"])
        assert sum(fake.inferences for fake in fakes.values()) == 153


async def test_the_first_may_still_be_the_first() -> None:
    async with late_world("eu-1", "us-1") as (router, fakes):
        fakes["eu-1"].fault, fakes["us-1"].fault = after(4 * LATE_S), hang
        status, told, body = await router.infer()
        assert (status, who(body)) == (200, "late")
        assert (told["x-fed-cluster"], told["x-fed-attempts"]) == ("eu-1", "2")
        assert told["x-fed-hedged"] == "lost"
        await eventually(lambda: fakes["us-1"].cancelled.is_set())
        assert counted(router, HEDGES % "lost") == 1
        assert counted(router, 'fed_router_attempts_total{reason="abandoned"}') == 1


@pytest.mark.parametrize("fault", [reset, refuse])
async def test_one_that_fails_leaves_the_other(fault: Fault) -> None:
    async with late_world("eu-1", "us-1") as (router, fakes):
        fakes["eu-1"].fault, fakes["us-1"].fault = after(2 * LATE_S, fault), after(5 * LATE_S)
        status, told, _ = await router.infer()
        assert (status, told["x-fed-cluster"], told["x-fed-attempts"]) == (200, "us-1", "2")
        assert counted(router, "fed_router_failovers_total") == 1
    async with late_world("eu-1", "us-1") as (router, fakes):
        fakes["eu-1"].fault, fakes["us-1"].fault = after(5 * LATE_S), fault
        status, told, _ = await router.infer()
        assert (status, told["x-fed-cluster"], told["x-fed-attempts"]) == (200, "eu-1", "2")
        assert told["x-fed-hedged"] == "lost"


async def test_where_both_fail_a_third_is_tried() -> None:
    async with late_world("eu-1", "us-1", "us-2") as (router, fakes):
        fakes["eu-1"].fault, fakes["us-1"].fault = after(3 * LATE_S, reset), after(LATE_S, reset)
        status, told, _ = await router.infer()
        assert (status, told["x-fed-cluster"], told["x-fed-attempts"]) == (200, "us-2", "3")
        assert "x-fed-hedged" not in told
        assert counted(router, HEDGES % "both_failed") == 1
        fakes["us-2"].fault = reset
        status, told, _ = await router.infer()
        assert (status, told["x-fed-attempts"]) == (503, "3")
        assert sum(fake.inferences for fake in fakes.values()) == 6


async def test_one_that_cannot_even_be_reached_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a connection, as a task: nothing of it is left."""
    async with late_world("eu-1", "us-1") as (router, fakes):
        start, left = router.upstreams.start, asyncio.Event()

        async def stuck(cluster: str, *rest: Any, **more: Any) -> Any:
            if cluster != "eu-1":
                return await start(cluster, *rest, **more)
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                left.set()

        monkeypatch.setattr(router.upstreams, "start", stuck)
        headers = {"x-fed-deadline-ms": "5000"}  # the usual way
        status, told, _ = await router.infer(headers=headers)
        assert (status, told["x-fed-hedged"], told["x-fed-cluster"]) == (200, "won", "us-1")
        async with asyncio.timeout(5):
            await left.wait()
        assert fakes["eu-1"].inferences == 0


async def test_a_client_that_leaves_ends_both() -> None:
    async with late_world("eu-1", "us-1") as (router, fakes):
        fakes["eu-1"].fault = fakes["us-1"].fault = hang
        asking = asyncio.get_running_loop().create_task(router.infer())
        await eventually(lambda: all(fake.inferences == 1 for fake in fakes.values()))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        for fake in fakes.values():
            await eventually(fake.cancelled.is_set)
        await eventually(lambda: counted(router, HEDGES % "left") == 1)


NEVER: tuple[tuple[dict[str, str], bytes], ...] = (
    ({"X-Federation-Replay": "never"}, b"{}"),
    ({"X-Federation-Replay": "on-failure"}, b"{}"),
    ({}, b'{"parameters": {"sequence_id": 7}}'),
    ({"Inference-Header-Content-Length": "20"}, b'{"sequence_start":1}' + b"\0" * 9),
)


@pytest.mark.parametrize(("headers", "body"), NEVER)
async def test_what_may_not_be_at_two_clusters_is_not(headers: dict[str, str], body: bytes) -> None:
    async with late_world("eu-1", "us-1", after_s=0.01) as (router, fakes):
        for fake in fakes.values():
            fake.fault = after(0.15)
        status, told, _ = await router.infer(body=body, headers=headers)
        assert (status, told["x-fed-attempts"]) == (200, "1")
        assert sum(fake.inferences for fake in fakes.values()) == 1
        assert "x-fed-hedged" not in told


async def test_text_is_not_hedged_nor_is_anything_without_a_budget() -> None:
    async with late_world("eu-1", "us-1", after_s=0.01) as (router, fakes):
        for fake in fakes.values():
            fake.fault = after(0.1)
        await router.ask("POST", "/v1/completions", body=b'{"model": "poet", "prompt": "x"}')
        await router.ask("POST", "/v2/models/poet/generate", body=b'{"text_input": "x"}')
        await router.infer("poet")
        assert sum(fake.inferences for fake in fakes.values()) == 3
    async with late_world("eu-1", "us-1", share=0.0) as (router, fakes):
        for fake in fakes.values():
            fake.fault = after(0.15)
        await router.infer()
        assert sum(fake.inferences for fake in fakes.values()) == 1


async def test_engines_see_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is late, and the other cluster always looks good."""

    def other(short: Shortlist, late: Late, *_: object) -> tuple[Option, float]:
        return next(o for o in short.options if o.cluster != late.asked.cluster), 0.0

    monkeypatch.setattr(hedging, "second", other)
    async with late_world("eu-1", "us-1", share=0.1, after_s=0.005) as (router, fakes):
        for fake in fakes.values():
            fake.fault = after(0.015)
        asked = 60
        for _ in range(asked):
            await router.infer()
        extra = sum(fake.inferences for fake in fakes.values()) - asked
        assert 3 <= extra <= 0.1 * (asked + WARM)
        assert counted(router, 'fed_router_hedges_not_sent_total{reason="budget"}') > 0


async def test_a_total_outage_is_not_multiplied() -> None:
    """Nothing answers: hedges and retries together stay within the budget for retries."""
    async with late_world("eu-1", "us-1", "ap-1", after_s=0.01) as (router, fakes):
        for fake in fakes.values():
            fake.fault = hang
        asked = 100
        headers = {"x-fed-deadline-ms": "150"}
        await asyncio.gather(*(router.infer(headers=headers) for _ in range(asked)))
        assert sum(fake.inferences for fake in fakes.values()) <= 1.2 * (asked + 20)


async def test_whatever_happens_each_request_has_one_answer_and_no_count_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each request is hedged, whatever the clusters look like."""
    dice = random.Random(7)

    def always(_: Hedges, short: Shortlist, late: Late) -> tuple[Option | None, float]:
        others = [o for o in short.options if o.cluster not in {late.asked.cluster, *late.failed}]
        return (dice.choice(others), 0.0) if others else (None, 1.0)

    async def odd(request: web.Request) -> web.StreamResponse:
        fault = dice.choice([after(0.0), after(0.03), after(0.06), reset, refuse, hang])
        await asyncio.sleep(dice.random() * 0.04)
        return await fault(request)

    monkeypatch.setattr(Hedges, "look", always)
    async with late_world("eu-1", "us-1", "ap-1", after_s=0.01) as (router, fakes):
        for fake in fakes.values():
            fake.fault = odd
        seen: Counter[bytes] = Counter()

        async def client(number: int) -> None:
            headers = b"x-fed-deadline-ms: 300\r\n" if number % 2 else b""
            async with Client(router.url) as connection:
                for turn in range(ASKED_EACH):
                    name = b"n%d-%d" % (number, turn)
                    try:
                        async with asyncio.timeout(0.4):
                            answer = await connection.ask(headers + b"x-request-id: %b\r\n" % name)
                    except TimeoutError:
                        return  # it leaves
                    assert answer.count(b"HTTP/1.1 ") == 1
                    assert b"x-request-id: %b\r\n" % name in answer
                    seen[answer[9:12]] += 1

        await asyncio.gather(*(client(number) for number in range(12)))
        outcomes = [counted(router, HEDGES % o) for o in ("won", "lost", "both_failed", "left")]
        assert min(outcomes) > 0
        assert seen[b"200"] > 10
        await eventually(lambda: router.state.requests_total >= sum(seen.values()) + WARM)
