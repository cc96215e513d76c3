import pytest

from router.policy.shortlist import Option
from router.policy.signals import Ending
from router.request.attempts import Leg
from tests.router.fakes import RouterUnderTest, gateways, router_for


def leg_of(router: RouterUnderTest, option: Option) -> Leg:
    """An attempt that was begun, and not sent."""
    resolved = router.state.require_table().resolve("digits")
    attempt = router.state.signals.begin(option.cluster, "digits", 2, 0.0)
    return Leg(resolved=resolved, chosen=option, attempt=attempt, sent_s=0.0)


async def test_an_attempt_is_ended_once_and_counts_as_what_came_of_it() -> None:
    async with gateways("eu-1") as fakes, router_for({"eu-1": fakes["eu-1"].url}) as router:
        await router.infer()
        option = next(iter(router.state.signals.lists.values())).options[0]
        attempts, counting = router.proxy._attempts, router.state.counting
        counts = counting.counts["digits", 2, "eu"]
        before = sum(counts.requests)
        for outrun, answered in ((True, False), (False, False), (False, True)):
            leg = leg_of(router, option)
            leg.is_the_one, leg.status = answered, 200 if answered else 499
            attempts.end(leg, outrun=outrun)
            attempts.end(leg)
            assert router.state.signals.in_flight("eu-1") == 0
        assert sum(counts.requests) == before + 3
        assert sum(counts.latency.values()) == 2  # the first request, and the one
        page = router.metrics.page().decode()
        assert f'attempts_total{{reason="{Ending.ABANDONED}"}} 2.0' in page
        assert 'attempts_total{reason="answered"} 2.0' in page


async def test_a_leg_without_an_answer_has_none_to_pass_on() -> None:
    async with gateways("eu-1") as fakes, router_for({"eu-1": fakes["eu-1"].url}) as router:
        await router.infer()
        option = next(iter(router.state.signals.lists.values())).options[0]
        leg = leg_of(router, option)
        with pytest.raises(ValueError, match="has no answer"):
            _ = leg.begun
        assert "under way" in repr(leg)
        router.proxy._attempts.end(leg)
