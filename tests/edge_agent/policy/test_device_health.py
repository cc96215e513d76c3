"""From signals to a verdict: at once, after a while, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.device_health import (
    RULES,
    Health,
    HealthRecords,
    Past,
    Recovery,
    Signals,
    judge,
)
from edge_agent.policy.nvidia_xids import KNOWN, Effect

FINE = Signals()
HOT = Signals(hot=True)


def run(*looks: tuple[float, Signals]) -> list[Health]:
    """Judge looks at seconds, one after another."""
    past, found = Past(), []
    for now_s, signals in looks:
        past, health = judge(past, signals, now_s)
        found.append(health)
    return found


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (Signals(lost="the GPU is lost"), "the GPU is lost"),
        (Signals(unusable="MIG is on"), "MIG is on"),
        (Signals(recovery=Recovery.GPU_RESET), "reset of the GPU"),
        (Signals(recovery=Recovery.NODE_REBOOT), "restart of the host"),
        (Signals(recovery=Recovery.DRAIN_P2P), "traffic between GPUs"),
        (Signals(recovery=Recovery.DRAIN_AND_RESET), "drain"),
        (Signals(xids=(79,)), "XID 79: fallen off the bus"),
        (Signals(xids=(45, 48, 31)), "XID 48"),
        (Signals(last_xid=119), "XID 119"),
        (Signals(remap_failed=True), "replaced"),
        (Signals(uncorrected=2), "2 uncorrected memory errors"),
    ],
)
def test_faults_count_at_once(signals: Signals, words: str) -> None:
    [health] = run((0, signals))
    assert not health.healthy
    assert words in health.reason


@pytest.mark.parametrize(
    ("signals", "note"),
    [
        (Signals(), ""),
        (Signals(recovery=Recovery.NONE), ""),
        (Signals(xids=(13, 31, 43, 45)), "XID 13"),
        (Signals(last_xid=31), ""),
        (Signals(remap_pending=True, remaps=True), "at the next reset"),
        (Signals(uncorrected=2, remaps=True), "2 uncorrected"),
        (Signals(recovery=Recovery.RECOVER_IMEX_DOMAIN), "IMEX"),
        (Signals(xids=(9999,)), "XID 9999"),
        (HOT, "heat"),
        (Signals(warm=True), "heat"),
        (Signals(braked=True), "power"),
    ],
)
def test_what_is_worth_knowing_is_no_fault(signals: Signals, note: str) -> None:
    [health] = run((0, signals))
    assert (health.healthy, health.reason) == (True, "")
    assert note in health.note
    assert bool(note) == bool(health.note)


def test_heat_is_a_fault_after_a_minute_and_for_two_more() -> None:
    looks = [(float(t), HOT) for t in range(0, 70, 10)]
    assert [h.healthy for h in run(*looks)] == [True] * 6 + [False]
    cooling = [(70.0, FINE), (170.0, FINE), (179.0, FINE), (180.0, FINE), (181.0, HOT)]
    assert [h.healthy for h in run(*looks, *cooling)[7:]] == [False, False, False, True, True]


def test_heat_that_comes_and_goes_within_seconds_is_one_heat() -> None:
    looks = [(float(t), HOT if t % 20 == 0 else FINE) for t in range(0, 70, 10)]
    assert [h.healthy for h in run(*looks)] == [True] * 6 + [False]


def test_heat_now_and_then_is_no_fault() -> None:
    looks = [(float(t), HOT if t % 60 == 0 else FINE) for t in range(0, 1000, 10)]
    assert all(h.healthy for h in run(*looks))


def test_being_warm_is_borne_for_ten_minutes() -> None:
    warm = Signals(warm=True)
    health = run((0, warm), (300, warm), (599, warm), (600, warm))
    assert [h.healthy for h in health] == [True, True, True, False]


def test_an_error_counts_until_the_driver_says_that_nothing_is_needed() -> None:
    unknown = [(float(t), FINE) for t in (10, 1000, 100_000)]
    assert not any(h.healthy for h in run((0, Signals(xids=(95,))), *unknown)), "it cannot tell"
    well = Signals(recovery=Recovery.NONE)
    health = run((0, Signals(xids=(95,))), (10, well), (50, well), (60, well))
    assert [h.healthy for h in health] == [False, False, False, True]


def test_a_gpu_that_was_away_has_been_reset() -> None:
    gone = Signals(lost="gone")
    health = run((0, Signals(xids=(79,))), (10, gone), (20, FINE), (49, FINE), (81, FINE))
    assert [h.healthy for h in health] == [False, False, False, False, True]


def test_an_exporters_last_code_counts_while_it_shows_it() -> None:
    health = run(
        (0, Signals(last_xid=48)), (1000, Signals(last_xid=48)), (1010, FINE), (1100, FINE)
    )
    assert [h.healthy for h in health] == [False, False, False, True]


def test_all_reasons_are_told_the_gravest_first() -> None:
    [health] = run((0, Signals(lost="gone", xids=(79,), remap_failed=True)))
    assert health.reason.split("; ")[:2] == ["gone", str(KNOWN[79])]


def test_records_keep_devices_apart_and_forget() -> None:
    records = HealthRecords()
    assert not records.judge("a", Signals(xids=(79,)), 0).healthy
    assert records.judge("b", FINE, 0).healthy
    assert repr(records) == "HealthRecords(2 devices, 1 at fault)"
    records.keep({"b"})
    assert records.judge("a", FINE, 1).healthy


SIGNALS = st.builds(
    Signals,
    lost=st.sampled_from(["", "gone"]),
    xids=st.lists(st.sampled_from(sorted(KNOWN)), max_size=3).map(tuple),
    recovery=st.none() | st.sampled_from(Recovery),
    remap_failed=st.booleans(),
    hot=st.booleans(),
    warm=st.booleans(),
    braked=st.booleans(),
)


@given(st.lists(st.tuples(st.floats(0.1, 1000), SIGNALS), max_size=20))
def test_every_fault_has_words_and_every_silence_heals(
    looks: list[tuple[float, Signals]],
) -> None:
    past, now_s = Past(), 0.0
    for step_s, signals in looks:
        now_s += step_s
        past, health = judge(past, signals, now_s)
        assert health.healthy == (not health.reason)
        if any(KNOWN[code].effect is Effect.UNUSABLE for code in signals.xids):
            assert not health.healthy
    longest_s = max(rule.clear_s for rule in RULES.values())
    well = Signals(recovery=Recovery.NONE)
    past, _ = judge(past, well, now_s + longest_s + 1)
    assert judge(past, well, now_s + 2 * longest_s + 2) == (Past(), Health())
