import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from federation.contract.access import Tenant
from router.policy.quota import LONGEST_WAIT_S, Bucket, Hold, OverQuota, Quotas

RPM = Tenant(name="rpm", requests_per_minute=600)


def sent(quotas: Quotas, tenant: Tenant, now_s: float) -> bool:
    try:
        with quotas.hold(tenant, now_s):
            return True
    except OverQuota:
        return False


def test_a_burst_then_the_pace_of_the_limit() -> None:
    quotas = Quotas()
    assert sum(sent(quotas, RPM, 0.0) for _ in range(500)) == 100  # ten seconds' worth
    assert sum(sent(quotas, RPM, 1.0) for _ in range(500)) == 10
    assert sum(sent(quotas, RPM, 10_000.0) for _ in range(500)) == 100


def test_even_the_smallest_limit_lets_one_in() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", requests_per_minute=1)
    assert sent(quotas, tenant, 0.0)
    assert not sent(quotas, tenant, 59.9)
    assert sent(quotas, tenant, 60.0)


def test_a_share_of_the_limits_is_all_that_is_handed_out() -> None:
    quotas = Quotas(0.25)
    assert sum(sent(quotas, RPM, 0.0) for _ in range(500)) == 25
    assert sum(sent(quotas, RPM, 4.0) for _ in range(500)) == 10
    few = Tenant(name="few", max_concurrent=5)
    holds = [quotas.enter(few, 0.0) for _ in range(2)]  # rounded up
    with pytest.raises(OverQuota):
        quotas.enter(few, 0.0)
    for hold in holds:
        hold.leave()


def test_shares_of_tenants_may_change_and_what_was_taken_stays_taken() -> None:
    quotas = Quotas(0.5)
    assert sum(sent(quotas, RPM, 0.0) for _ in range(500)) == 50
    quotas.divide({"rpm": 0.9}, 0.0)
    assert not sent(quotas, RPM, 0.0)
    assert sum(sent(quotas, RPM, 1.0) for _ in range(500)) == 9
    quotas.divide({}, 1.0)  # the even share again
    assert sum(sent(quotas, RPM, 3.0) for _ in range(500)) == 10
    quotas.divide({"new": 0.1}, 3.0)
    new = Tenant(name="new", requests_per_minute=600)
    assert sum(sent(quotas, new, 3.0) for _ in range(500)) == 10


def test_a_refusal_says_when_to_come_back() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", requests_per_minute=2)
    sent(quotas, tenant, 0.0)
    with pytest.raises(OverQuota) as caught, quotas.hold(tenant, 0.0):
        pass
    assert caught.value.retry_after_s == 30
    assert caught.value.reason == "requests-per-minute"
    assert "30 s" in caught.value.sentence()
    assert caught.value.hold.headers(0.0) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "30.0s",
    }


def test_requests_at_once_are_counted_and_released_on_every_way_out() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", max_concurrent=2)
    with quotas.hold(tenant, 0.0), quotas.hold(tenant, 0.0):
        assert quotas.in_flight("t") == 2
        with pytest.raises(OverQuota) as caught, quotas.hold(tenant, 0.0):
            pass
        assert (caught.value.reason, caught.value.retry_after_s) == ("max-concurrent", 1)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), quotas.hold(tenant, 0.0):
            raise error
    assert quotas.in_flight("t") == 0
    assert repr(quotas) == "Quotas(1 accounts, in flight: {})"


def test_tokens_are_estimated_then_settled() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", tokens_per_minute=600)
    with quotas.hold(tenant, 0.0) as hold:
        hold.expect_tokens(40, 0.0)
        assert remaining(hold) == 60
        hold.used = 10
    assert remaining(hold) == 90
    with quotas.hold(tenant, 0.0) as hold:
        hold.expect_tokens(40, 0.0)
        hold.used = 190
    assert remaining(hold) == 0
    with quotas.hold(tenant, 5.0) as hold, pytest.raises(OverQuota) as caught:
        hold.expect_tokens(10, 5.0)  # 100 are owed, 50 of them paid by now
    assert (caught.value.reason, caught.value.retry_after_s) == ("tokens-per-minute", 6)
    with quotas.hold(tenant, 11.0) as hold:
        hold.expect_tokens(10, 11.0)
        hold.settle()
        hold.settle()
        assert remaining(hold, 11.0) == 10


def remaining(hold: Hold, now_s: float = 0.0) -> int:
    return int(hold.headers(now_s)["x-ratelimit-remaining-tokens"])


def test_what_is_larger_than_the_bucket_goes_when_it_is_full() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", tokens_per_minute=600)
    with quotas.hold(tenant, 0.0) as hold:
        hold.expect_tokens(1_000_000, 0.0)
        hold.used = 1_000_000
    with quotas.hold(tenant, 0.0) as hold, pytest.raises(OverQuota) as caught:
        hold.expect_tokens(1, 0.0)
    assert caught.value.retry_after_s == LONGEST_WAIT_S


def test_a_refused_request_costs_no_tokens() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", tokens_per_minute=600)
    with quotas.hold(tenant, 0.0) as hold:
        hold.expect_tokens(70, 0.0)
        with quotas.hold(tenant, 0.0) as other, pytest.raises(OverQuota):
            other.expect_tokens(70, 0.0)
    assert remaining(hold) == 100


def test_a_changed_limit_counts_at_once_and_debts_stay() -> None:
    quotas = Quotas()
    few, many = (Tenant(name="t", requests_per_minute=n) for n in (6, 6000))
    assert sent(quotas, few, 0.0)
    assert not sent(quotas, many, 0.0)
    assert sum(sent(quotas, many, 100.0) for _ in range(2000)) == 1000
    quotas.check(many, 200.0)
    assert sum(sent(quotas, few, 200.0) for _ in range(2000)) == 1
    assert sent(quotas, Tenant(name="t"), 200.0)  # no limit any more


def test_tenants_without_limits_are_not_remembered() -> None:
    quotas = Quotas()
    for i in range(1000):
        assert sent(quotas, Tenant(name=f"t{i}"), 0.0)
    assert quotas.accounts == 0


def test_a_tenant_that_is_gone_is_forgotten_when_its_requests_end() -> None:
    quotas, tenant = Quotas(), Tenant(name="t", max_concurrent=1)
    with quotas.hold(tenant, 0.0):
        quotas.retain(())
        assert quotas.accounts == 1
        assert not sent(quotas, tenant, 0.0)  # it came back: still one at once
    quotas.retain(())
    assert quotas.accounts == 0


times = st.lists(st.floats(0, 30), min_size=1, max_size=120).map(
    lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]
)


@given(st.integers(1, 5000), times)
@settings(deadline=None)
def test_no_window_lets_more_than_limit_and_bucket_in(
    per_minute: int, moments: list[float]
) -> None:
    quotas, tenant = Quotas(), Tenant(name="t", requests_per_minute=per_minute)
    let_in = [now_s for now_s in moments for _ in range(20) if sent(quotas, tenant, now_s)]
    bucket = max(1.0, per_minute / 6)
    for i, first in enumerate(let_in):
        for j in range(i, len(let_in), 7):
            assert j - i + 1 <= (let_in[j] - first) * per_minute / 60 + bucket + 1e-6


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 500), st.integers(0, 500)), max_size=80))
def test_tokens_used_stay_within_limit_bucket_and_one_overdraft(
    requests: list[tuple[float, int, int]],
) -> None:
    quotas, tenant = Quotas(), Tenant(name="t", tokens_per_minute=600)
    now_s, used, largest = 0.0, 0, 0
    for gap_s, expected, took in requests:
        now_s += gap_s
        try:
            with quotas.hold(tenant, now_s) as hold:
                hold.expect_tokens(expected, now_s)
                hold.used = took
        except OverQuota:
            continue
        used, largest = used + took, max(largest, took)
        assert used <= now_s * 10 + 100 + largest + 1e-6


@given(st.integers(1, 10**6), st.lists(st.tuples(st.floats(-10, 100), st.floats(0, 10**6))))
def test_after_the_wait_that_is_told_it_fits(
    per_minute: int, steps: list[tuple[float, float]]
) -> None:
    bucket, now_s = Bucket(per_minute, 0.0), 0.0
    for gap_s, amount in steps:
        now_s += gap_s  # a clock may go back
        wait_s = bucket.wait_s(amount, now_s)
        assert bucket.level <= bucket.capacity
        if wait_s == 0:
            bucket.take(amount)
        else:
            later = Bucket(per_minute, 0.0)
            later.level, later.at_s = bucket.level, bucket.at_s
            assert later.wait_s(amount, max(now_s, bucket.at_s) + wait_s + 1e-3) == 0


class TenantsComeAndGo(RuleBasedStateMachine):
    """Requests begin and end in any order while tenants appear, vanish and change."""

    def __init__(self) -> None:
        super().__init__()
        self.quotas = Quotas()
        self.now_s = 0.0
        self.tenants: dict[str, Tenant] = {}
        self.waits_s: list[int] = []
        self.running: list[tuple[str, object, Hold]] = []

    @rule(name=st.sampled_from("abc"), at_once=st.integers(0, 3), tokens=st.integers(0, 600))
    def apply(self, name: str, at_once: int, tokens: int) -> None:
        self.tenants[name] = Tenant(name=name, max_concurrent=at_once, tokens_per_minute=tokens)

    @rule(name=st.sampled_from("abc"))
    def remove(self, name: str) -> None:
        self.tenants.pop(name, None)
        self.quotas.retain(self.tenants)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.tenants)
    @rule(data=st.data(), tokens=st.integers(0, 300))
    def begin(self, data: st.DataObject, tokens: int) -> None:
        tenant = self.tenants[data.draw(st.sampled_from(sorted(self.tenants)))]
        context = self.quotas.hold(tenant, self.now_s)
        try:
            hold = context.__enter__()
        except OverQuota as error:
            self.waits_s.append(error.retry_after_s)
            return
        self.running.append((tenant.name, context, hold))
        if tenant.max_concurrent > 0:
            assert self.quotas.in_flight(tenant.name) <= tenant.max_concurrent
        try:
            hold.expect_tokens(tokens, self.now_s)
        except OverQuota:
            self._end(len(self.running) - 1)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), used=st.integers(0, 500))
    def end(self, data: st.DataObject, used: int) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        self.running[index][2].used = used
        self._end(index)

    def _end(self, index: int) -> None:
        _, context, _ = self.running.pop(index)
        context.__exit__(None, None, None)  # type: ignore[attr-defined]

    @invariant()
    def memory_is_bounded(self) -> None:
        self.quotas.retain(self.tenants)
        assert all(1 <= wait_s <= LONGEST_WAIT_S for wait_s in self.waits_s)
        alive = {name for name, _, _ in self.running}
        assert self.quotas.accounts <= len(set(self.tenants) | alive)

    def teardown(self) -> None:
        while self.running:
            self._end(0)
        for name in "abc":
            assert self.quotas.in_flight(name) == 0
        self.quotas.retain(())
        assert self.quotas.accounts == 0


TestTenantsComeAndGo = TenantsComeAndGo.TestCase


@given(
    st.floats(0.5, 1e9),
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-5.0, 200.0)), max_size=30),
    st.floats(0.5, 1e9),
)
def test_what_clients_are_told_is_what_is_left(
    per_minute: float, steps: list[tuple[float, float]], later_per_minute: float
) -> None:
    bucket, now_s = Bucket(per_minute, 0.0), 0.0
    for number, (passed_s, amount) in enumerate(steps):
        if number == 15:
            per_minute = later_per_minute
            bucket.adjust(per_minute, now_s)
        now_s += passed_s
        bucket.take(amount)
        for _ in range(2):
            lines = dict(line.split(": ") for line in bucket.fields(now_s).decode().splitlines())
            full_s = float(lines["x-ratelimit-reset-requests"].removesuffix("s"))
            left = int(lines["x-ratelimit-remaining-requests"])
            assert lines["x-ratelimit-limit-requests"] == f"{int(per_minute)}"
            assert left == max(int(bucket.level + 1e-9), 0)
            missing_s = (bucket.capacity - bucket.level) / bucket.per_s
            assert full_s == pytest.approx(missing_s, abs=0.0501, rel=1e-9)
