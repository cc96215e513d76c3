"""What is known of one call while it is on its way (see `stream`, which acts on it).

Input: a client's stream and the head on it. Output: fields. The flows of both directions are made
when they are first needed: a call that comes whole, and is answered whole, needs none (`whole`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from federation.relay.h2.flow import Flow, Piece
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.service import Handler, Held, Route
from federation.relay.h2.status import Status
from federation.relay.h2.wheel import NEVER

if TYPE_CHECKING:
    from federation.relay.h2.client import Client
    from federation.relay.h2.rival import Rival
    from federation.relay.h2.upstream import Up


class CallState:
    """The fields of a call. What a call that comes whole does not need stays as it is here: to set
    it for each one would cost as much as all else that is done for such a call."""

    handler: Handler | None = None
    route: Route | None = None
    up: "Up | None" = None
    up_number = 0
    sent_whole = False  # with its head, when it was opened
    begun = False  # something of an answer was sent on
    gone = False
    trailers: tuple[bytes, Status] | None = None  # what ends the answer, once it is sent
    replay: Sequence[Piece] | None = ()  # what was sent, None = it is not whole
    replay_bytes = 0
    ends_s = first_by_s = NEVER
    look_s = NEVER  # when to see whether it is sent to a second place, too
    rival: "Rival | None" = None  # its attempt there
    seen_sent = -1  # of the answer, when it was last looked at
    held: Held | None = None  # it waits for something to happen
    widened = 0  # what the client's window for the answer grew by before it was made
    made_request: Flow | None = None
    made_answer: Flow | None = None

    def __init__(self, client: "Client", number: int, head: RequestHead, *, ended: bool) -> None:
        self.client = client
        self.number = number
        self.head = head
        self.request_ended = ended  # when it came; a request that is on its way knows better
        self.began_s = client.switch.read_s

    def __repr__(self) -> str:
        way = self.route.backend.name if self.route else "nowhere yet"
        state = "gone" if self.gone else "answered" if self.begun else "asked"
        return f"Stream({self.number} to {way}, {state}, {self.made_request}, {self.made_answer})"

    def _flow(self) -> Flow:
        switch = self.client.switch
        return Flow(switch.limits.window, switch.memory)

    def let_go(self) -> None:
        """Hold nothing any more."""
        for flow in (self.made_request, self.made_answer):
            if flow is not None:
                flow.let_go()

    @property
    def request(self) -> Flow:
        """What comes from the client. Made when it is first needed, for a call that comes whole
        needs it only if it goes wrong: then all of it was sent on."""
        if self.made_request is None:
            self.made_request = self._flow()
            self.made_request.ended = self.request_ended
            self.made_request.last_frame = self.sent_whole
        return self.made_request

    @property
    def answer(self) -> Flow:
        """What comes from the backend; made when it is first needed, as above."""
        if self.made_answer is None:
            self.made_answer = self._flow()
            self.made_answer.window = self.client.stream_window + self.widened
        return self.made_answer
