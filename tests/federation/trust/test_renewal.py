"""When a certificate is renewed, and that it is, for as long as a process lives."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerRole
from federation.contract.trust import Revocation
from federation.runtime.backoff import Backoff
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import BACKDATED, Membership, Patience, Schedule
from tests.fakes.enrolling import QUICK, EnrollingPlane, until
from tests.pki import make_authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Always:
    """A dice that always shows the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def schedule(dice: float = 0.5) -> Schedule:
    return Schedule(dice=Always(dice))


# ------------------------------------------------------------------ the schedule


def test_nothing_is_held_so_it_is_due_at_once() -> None:
    assert schedule().wait_s(NOW) == 0


@given(life_s=st.floats(2, 400 * 86400), dice=st.floats(0, 0.999), age=st.floats(0, 0.4))
def test_a_certificate_is_renewed_around_half_its_life(
    life_s: float, dice: float, age: float
) -> None:
    plan = schedule(dice)
    issued = NOW - timedelta(seconds=life_s * age)
    plan.holds(issued - BACKDATED, issued + timedelta(seconds=life_s), NOW)
    due_at = plan.wait_s(NOW) / life_s + age
    assert 0.45 - 1e-6 <= due_at <= max(0.55, age + 0.2 / life_s) + 1e-6


def test_a_life_of_two_seconds_is_no_life_of_62() -> None:
    plan = schedule()
    plan.holds(NOW - BACKDATED, NOW + 2 * SECOND, NOW)
    assert plan.wait_s(NOW) == pytest.approx(1.0)


def test_an_expired_certificate_is_due_soon_but_not_in_a_hot_loop() -> None:
    plan = schedule()
    plan.holds(NOW - 3600 * SECOND, NOW - SECOND, NOW)
    assert plan.wait_s(NOW) == pytest.approx(0.2)


@given(life_s=st.floats(2, 90 * 86400), failures=st.integers(1, 40), dice=st.floats(0, 0.999))
def test_tries_after_failures_are_bounded_and_come_within_a_tenth_of_a_life(
    life_s: float, failures: int, dice: float
) -> None:
    plan = schedule(dice)
    plan.holds(NOW - BACKDATED, NOW + timedelta(seconds=life_s), NOW)
    for _ in range(failures):
        plan.failed(NOW)
        assert 0.2 - 1e-6 <= plan.wait_s(NOW) <= max(1.0, min(30.0, life_s / 10)) + 1e-6


def test_a_success_forgets_the_failures() -> None:
    plan = schedule(0.999)
    for _ in range(20):
        plan.failed(NOW)
    assert plan.wait_s(NOW) > 20
    plan.holds(NOW - BACKDATED, NOW + 86400 * SECOND, NOW)
    plan.failed(NOW)
    assert plan.wait_s(NOW) <= 1


def test_doubt_asks_at_once_but_not_again_and_again() -> None:
    plan = schedule()
    plan.holds(NOW - BACKDATED, NOW + 86400 * SECOND, NOW)
    later = NOW + 600 * SECOND
    plan.doubted(later)
    assert plan.wait_s(later) == 0
    plan.asked(later)
    plan.holds(later - BACKDATED, later + 86400 * SECOND, later)
    plan.doubted(later + SECOND)
    assert plan.wait_s(later + SECOND) == pytest.approx(29)
    plan.failed(later)
    wait_s = plan.wait_s(later)
    plan.doubted(later)
    assert plan.wait_s(later) == wait_s


def test_a_certificate_that_is_refused_right_after_the_start_is_asked_for_at_once() -> None:
    plan = schedule()
    plan.holds(NOW - 3600 * SECOND, NOW + 82800 * SECOND, NOW)  # from the disk
    plan.doubted(NOW + SECOND)
    assert plan.wait_s(NOW + SECOND) == 0


def test_waiting_for_acceptance_is_steady() -> None:
    plan = schedule()
    for _ in range(10):
        plan.waiting(NOW)
        assert plan.wait_s(NOW) == pytest.approx(3.0)
    assert "due=" in repr(plan)


# ------------------------------------------------------------------ the task


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[EnrollingPlane]:
    plane = EnrollingPlane(make_authority(tmp_path), life=2 * SECOND)
    await plane.start()
    yield plane
    await plane.stop()


def member(
    plane: EnrollingPlane, tmp_path: Path, *, patience: Patience | None = None
) -> Membership:
    credentials = Credentials(tmp_path / "identity")
    contact = plane.contact(tmp_path / "token")
    enrolment = Enrolment(credentials, contact, role=PeerRole.CLUSTER, name="eu")
    return Membership(
        enrolment, clock=SystemClock(), dice=random.Random(1), patience=patience or QUICK
    )


@contextlib.asynccontextmanager
async def running(membership: Membership) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(membership.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def token(plane: EnrollingPlane, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(plane.admit(PeerRole.CLUSTER, "eu"))


async def test_it_joins_and_renews_before_the_end(plane: EnrollingPlane, tmp_path: Path) -> None:
    token(plane, tmp_path)
    membership = member(plane, tmp_path)
    changes = []
    async with running(membership):
        await asyncio.wait_for(membership.joined(), 10)
        membership.credentials.on_change.append(
            lambda: changes.append(membership.credentials.require()[0])
        )
        while len(changes) < 3:
            leaf = membership.credentials.require()[0]
            assert leaf.facts.not_after > datetime.now(UTC), "never without a valid certificate"
            await asyncio.sleep(0.05)
    assert membership.renewals == 3
    assert membership.reason == ""
    assert "due=" in repr(membership)
    ends = [leaf.facts.not_after for leaf in changes]
    assert ends == sorted(ends)


async def test_another_start_renews_what_is_on_disk(plane: EnrollingPlane, tmp_path: Path) -> None:
    token(plane, tmp_path)
    async with running(first := member(plane, tmp_path)):
        await first.joined()
    again = member(plane, tmp_path)
    await asyncio.wait_for(again.joined(), 0.1)
    async with running(again):
        await until(lambda: again.renewals == 1)
    assert [verb for verb, _ in plane.seen].count("join") == 1


async def test_an_outage_longer_than_a_life_needs_no_hands(
    plane: EnrollingPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token(plane, tmp_path)
    membership = member(plane, tmp_path)
    async with running(membership):
        await membership.joined()
        await plane.stop()
        leaf = membership.credentials.require()[0]
        await until(lambda: leaf.facts.not_after < datetime.now(UTC))
        assert "cannot reach" in membership.reason
        await plane.start()
        await until(lambda: membership.renewals)
        assert membership.credentials.require()[0].facts.not_after > datetime.now(UTC)
    told = [r for r in caplog.records if "cannot reach" in r.getMessage()]
    assert len(told) == 1, "each reason is told once"


async def test_it_waits_for_acceptance_and_says_so_once(
    plane: EnrollingPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plane.waiting = True
    token(plane, tmp_path)
    membership = member(plane, tmp_path)
    async with running(membership):
        await until(lambda: len(plane.seen) >= 8)
        assert not membership.credentials.complete
        plane.waiting = False
        await asyncio.wait_for(membership.joined(), 10)
    told = [r for r in caplog.records if "not joined yet" in r.getMessage()]
    assert ["operator" in record.getMessage() for record in told] == [True]


async def test_a_better_token_may_come_while_it_waits(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    membership = member(plane, tmp_path)
    async with running(membership):
        await until(lambda: "cannot read the join token" in membership.reason)
        (tmp_path / "token").write_text("fed_join_eu_nonsense")
        await until(lambda: "unknown or expired" in membership.reason)
        token(plane, tmp_path)
        await asyncio.wait_for(membership.joined(), 10)
        await until(lambda: membership.reason == "")


async def test_a_revoked_member_joins_anew_with_a_new_token(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    plane.authority.leaf_life = timedelta(hours=1)
    token(plane, tmp_path)
    hasty = Patience(retry=Backoff(first_s=0.05, cap_s=0.2), least_s=0.01)
    membership = member(plane, tmp_path, patience=hasty)
    async with running(membership):
        await membership.joined()
        old = membership.credentials.require()[0]
        plane.revoked = (Revocation(uri=old.facts.id.uri, below=2),)
        plane.generation = 2
        while "revoked" not in membership.reason:
            membership.doubted()  # as the link does, each time it is refused
            await asyncio.sleep(0.05)
        assert "Nor does the join token help" in membership.reason, "it is used up"
        token(plane, tmp_path)
        await until(lambda: membership.credentials.require()[0].facts.generation == 2)


async def test_another_federation_can_be_joined_whatever_its_trust_version(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    plane.trust_version = 99
    token(plane, tmp_path)
    async with running(first := member(plane, tmp_path)):
        await first.joined()
    await plane.stop()
    other = EnrollingPlane(make_authority(tmp_path / "other"))
    await other.start()
    token(other, tmp_path)
    membership = member(other, tmp_path)
    async with running(membership):
        await until(lambda: membership.credentials.trust == other.trust())
    await other.stop()


async def test_it_refuses_to_start_with_nothing(plane: EnrollingPlane, tmp_path: Path) -> None:
    enrolment = Enrolment(Credentials(None), plane.contact(), role=PeerRole.CLUSTER, name="eu")
    with pytest.raises(Invalid, match="no join token"):
        Membership(enrolment, clock=SystemClock(), dice=random.Random(1)).check()
