"""Requests that are answered without a coroutine: what connection and application agree on.

Input: a request that came whole, in one piece. Output: something under way, or None: then it goes
the usual way (`messages.Request`), of which nothing was done before.
"""

from typing import TYPE_CHECKING, Protocol

from federation.relay.http1.alike import Alike
from federation.relay.http1.heads import RequestHead

if TYPE_CHECKING:
    from federation.relay.http1.server import ServerConnection


class UnderWay(Protocol):
    """A request that is answered without a coroutine: by `ServerConnection.answer`, once; or that
    becomes one for a coroutine, by `ServerConnection.hand_over`."""

    def start(self) -> None:
        """Begin; called once, as soon as the connection knows of it."""
        ...

    def abandon(self) -> None:
        """The client is gone. The request has to be handed over, which is then cancelled."""
        ...


class _Answered:
    """A request whose answer is about to be sent: there is nothing to do for it any more."""

    def start(self) -> None:
        """It has begun long ago."""

    def abandon(self) -> None:
        """Its client will not see the answer."""


ANSWERED: UnderWay = _Answered()


class Quick(Protocol):
    """Takes requests that came whole."""

    def __call__(
        self,
        connection: "ServerConnection",
        head: RequestHead,
        alike: Alike,
        raw: bytes,
        body: bytes,
    ) -> UnderWay | None:
        """Take a request, or do nothing and return None.

        `head` is one like that of the request, which is `raw`; `alike.values` are those in which
        they differ. With `alike.known` False, no further one like it is offered."""
        ...
