"""The connection's life: its table, its waits, its sequence numbers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.session import TRANSITIONS, LinkState, LinkStep, Session, Welcomed
from federation.contract.errors import InvalidTransition


class Always:
    """A dice that always shows the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.fixture
def session() -> Session:
    return Session(dice=Always(1.0))


def joined(session: Session, now: float = 0.0, *, epoch: int = 1) -> Session:
    session.dialled()
    session.welcomed(Welcomed(epoch=epoch, report_interval_s=1.0), now)
    return session


def test_every_state_is_reached_and_left() -> None:
    assert {of for of, _ in TRANSITIONS} == set(LinkState) == set(TRANSITIONS.values())
    assert {step for _, step in TRANSITIONS} == set(LinkStep)


def test_a_welcome_out_of_the_blue_is_refused(session: Session) -> None:
    with pytest.raises(InvalidTransition, match="the link is disconnected"):
        session.welcomed(Welcomed(epoch=1, report_interval_s=1.0), 0.0)


def test_the_first_report_goes_at_once_the_next_after_the_interval(session: Session) -> None:
    joined(session, 50.0)
    assert session.report_s() <= 50.0
    assert session.stamp_report(50.0) == (1, 1)
    assert session.report_s() == 51.0
    session.changed()
    assert session.report_s() == pytest.approx(50.1)
    assert session.stamp_report(50.1) == (1, 2)
    assert session.report_s() == pytest.approx(51.1)


def test_a_new_epoch_counts_from_one_again(session: Session) -> None:
    joined(session)
    session.stamp_report(0.0)
    session.broken("gone", 1.0)
    joined(session, epoch=4)
    assert session.stamp_report(2.0) == (4, 1)


def test_waits_grow_and_are_bounded_and_forgiven(session: Session) -> None:
    waits = []
    for _ in range(9):
        session.dialled()
        session.broken("no answer", 0.0)
        waits.append(session.dial_s)
    assert waits[:3] == [pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.8)]
    assert max(waits) == 5.0
    joined(session, 100.0)
    session.broken("gone soon", 101.0)
    assert session.dial_s == 106.0
    joined(session, 200.0)
    session.broken("gone after a minute", 260.0)
    assert session.dial_s == pytest.approx(260.2)


def test_a_refusal_waits_longer_than_a_broken_stream(session: Session) -> None:
    session.dialled()
    session.refused("no", 0.0)
    assert (session.state, session.reason) == (LinkState.REFUSED, "no")
    assert session.dial_s == 2.0


def test_a_move_begins_a_new_epoch_without_a_gap(session: Session) -> None:
    joined(session)
    session.stamp_report(0.0)
    session.moved(Welcomed(epoch=2, report_interval_s=1.0), 0.5)
    assert session.state is LinkState.JOINED
    assert session.report_s() <= 0.5
    assert session.stamp_report(0.5) == (2, 1)


def test_it_can_be_read(session: Session) -> None:
    session.dialled()
    session.broken("no answer", 0.0)
    assert repr(session) == "Session(disconnected, epoch=0, sequence=0, no answer)"


@given(st.lists(st.sampled_from(list(LinkStep)), max_size=40), st.integers())
def test_sequences_only_grow_within_an_epoch(steps: list[LinkStep], seed: int) -> None:
    session, epoch, now = Session(dice=random.Random(seed)), 0, 0.0
    stamps: list[tuple[int, int]] = []
    for step in steps:
        now += 1.0
        if (session.state, step) not in TRANSITIONS:
            continue
        match step:
            case LinkStep.DIALLED:
                session.dialled()
            case LinkStep.WELCOMED:
                epoch += 1
                session.welcomed(Welcomed(epoch=epoch, report_interval_s=1.0), now)
            case LinkStep.MOVED:
                epoch += 1
                session.moved(Welcomed(epoch=epoch, report_interval_s=1.0), now)
            case LinkStep.BROKEN:
                session.broken("x", now)
            case LinkStep.REFUSED:
                session.refused("x", now)
        if session.state is LinkState.JOINED:
            stamps.append(session.stamp_report(now))
        elif session.state is not LinkState.CONNECTING:
            assert now < session.dial_s <= now + 30
    assert stamps == sorted(set(stamps))
