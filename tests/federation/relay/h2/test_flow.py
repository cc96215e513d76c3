"""Flow control as a state machine: nothing is lost, nobody gets more than was granted."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from federation.relay.h2 import wire
from federation.relay.h2.flow import Flow, Memory, Piece

SIZE = 1000


class Outlet:
    """What a connection is to a flow."""

    def __init__(self) -> None:
        self.window, self.max_frame, self.paused = 500, 100, False
        self.blocked: dict[str, None] = {}
        self.frames: list[tuple[int, bytes]] = []

    def send_data(self, head: bytes, piece: Piece) -> None:
        size, flags, stream = wire.read_head(head)
        assert (size >> 8, stream) == (len(piece), 1)
        assert len(piece) <= self.max_frame
        self.frames.append((flags, bytes(piece)))


class OneDirection(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.flow, self.outlet = Flow(SIZE), Outlet()
        self.flow.window = 300
        self.sender = SIZE  # what the sender may still send
        self.sent = b""
        self.stream_granted = 300
        self.total_granted = 500

    def _pump(self, quantum: int = 1 << 30) -> None:
        self.flow.pump(self.outlet, "me", 1, quantum, ends=True)
        self.sender += self.flow.give_back() if not self.flow.ended else 0

    @rule(data=st.binary(min_size=1, max_size=400), last=st.booleans())
    def arrives(self, data: bytes, last: bool) -> None:
        data = data[: self.sender]
        if self.flow.ended or not data:
            return
        self.sender -= len(data)
        assert self.flow.take(len(data))
        self.flow.hold(data)
        self.flow.ended = last and len(self.sent) > 300
        self.sent += data
        self._pump()

    @rule(size=st.integers(1, 400))
    def stream_opens(self, size: int) -> None:
        self.stream_granted += size
        assert self.flow.widen(size)
        self._pump()

    @rule(size=st.integers(1, 400), quantum=st.integers(1, 200))
    def connection_opens(self, size: int, quantum: int) -> None:
        self.total_granted += size
        self.outlet.window += size
        self._unblock(quantum)

    def _unblock(self, quantum: int) -> None:
        while self.outlet.blocked and self.outlet.window > 0 and not self.outlet.paused:
            self.outlet.blocked.clear()
            self._pump(quantum)

    @rule(change=st.integers(-200, 200))
    def settings_change(self, change: int) -> None:
        self.stream_granted += change
        assert self.flow.widen(change)
        self._pump()

    @rule()
    def transport_fills(self) -> None:
        self.outlet.paused = True

    @rule()
    def transport_empties(self) -> None:
        self.outlet.paused = False
        self._unblock(1 << 30)

    @invariant()
    def nothing_is_lost_or_added(self) -> None:
        out = b"".join(piece for _, piece in self.outlet.frames)
        assert self.sent.startswith(out)
        assert len(out) + self.flow.held == len(self.sent)
        assert self.flow.sent == len(out)

    @invariant()
    def nobody_gets_more_than_granted(self) -> None:
        out = self.flow.sent
        assert self.flow.held <= SIZE
        assert out <= self.total_granted
        assert self.flow.window == self.stream_granted - out
        assert self.flow.granted == self.sender

    @invariant()
    def what_can_go_has_gone(self) -> None:
        stuck = self.outlet.paused or self.outlet.window <= 0 or self.flow.window <= 0
        assert stuck or not self.flow.held or self.outlet.blocked

    @invariant()
    def the_end_is_told_once(self) -> None:
        ends = [flags for flags, _ in self.outlet.frames if flags & wire.END_STREAM]
        assert len(ends) == int(self.flow.last_frame)
        if self.flow.last_frame:
            assert self.flow.ended
            assert not self.flow.held


OneDirection.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestOneDirection = OneDirection.TestCase


def test_more_than_was_granted_is_noticed() -> None:
    flow = Flow(10)
    assert flow.take(10)
    assert not flow.take(1)
    assert not flow.widen(1 << 31)
    assert "granted=-1" in repr(flow)


def test_what_is_held_is_counted_for_all_together() -> None:
    memory = Memory(10)
    one, other = Flow(100, memory), Flow(100, memory)
    one.hold(b"12345678")
    assert not one.too_much
    other.hold(b"123")
    assert one.too_much
    assert other.too_much
    assert not Flow(100, memory).too_much
    assert list(one.let_go()) == [b"12345678"]
    assert repr(memory) == "Memory(3 of 10)"
    outlet = Outlet()
    other.window = outlet.window = 100
    sent = other.pump(outlet, other, 1, 100, ends=False)
    assert memory.held == 0
    other.hold_first(sent)
    assert memory.held == other.held == 3
