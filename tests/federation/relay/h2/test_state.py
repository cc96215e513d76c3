"""What is known of a call: flows that are made late say what happened before."""

from federation.relay.h2.heads import RequestHead
from federation.relay.h2.state import CallState
from tests.federation.relay.h2.rig import CALL, rig


async def test_flows_that_are_made_late() -> None:
    async with rig(modes=("silent",)) as r:
        await r.client()
        (connection,) = r.switch.clients
        state = CallState(connection, 1, RequestHead(path=b"/a/B", block=b""), ended=True)
        assert state.made_request is None
        state.sent_whole = True
        assert state.request.ended
        assert state.request.last_frame
        assert state.request is state.request
        assert state.answer.window == connection.stream_window


async def test_repr_makes_nothing() -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        (stream,) = next(iter(r.switch.clients)).streams.values()
        assert repr(stream).startswith("Stream(1 to silent, asked, ")
        assert stream.made_answer is None
