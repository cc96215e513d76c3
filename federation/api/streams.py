"""What the two gRPC services share: first messages, checks, and two directions at once.

Input: grpc.aio's contexts and message iterators. Output: checked values, or errors of ours that the
services turn into a status; a malformed or hostile peer gets a sentence, never a traceback.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import grpc.aio

from federation.contract.errors import DeadlineExceeded, FederationError, Invalid
from federation.contract.types import Location

HELLO_TIMEOUT_S = 10.0
HEARING_S = 1.0  # for the first message of a peer that is refused
MAX_TEXT = 2048  # characters of any one text of a peer

In = TypeVar("In")
Out = TypeVar("Out")


class Outbox(Generic[Out]):
    """Writes to a stream from several tasks, one message at a time."""

    def __init__(self, context: "grpc.aio.ServicerContext[In, Out]") -> None:
        self._context = context
        self._turn = asyncio.Lock()

    async def send(self, message: Out) -> None:
        """Send one message."""
        async with self._turn:
            await self._context.write(message)


async def first_message(messages: AsyncIterator[In]) -> In:
    """Return the first message; raises Invalid or DeadlineExceeded when there is none."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            return await anext(messages)
    except StopAsyncIteration:
        raise Invalid("the stream ended before a hello.") from None
    except TimeoutError:
        raise DeadlineExceeded(f"no hello came within {HELLO_TIMEOUT_S:g} s.") from None


@asynccontextmanager
async def heard_before_refused(messages: AsyncIterator[In]) -> AsyncIterator[None]:
    """Let an error of the block go on only after the first message came, or a moment passed.

    grpc.aio's client tells a refusal that crosses what it writes as INTERNAL, without our sentence.
    """
    try:
        yield
    except FederationError:
        with suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(HEARING_S):
                await anext(messages)
        raise


async def run_until_first(*directions: Coroutine[None, None, None]) -> None:
    """Run all until the first ends, cancel the others, and raise what it raised."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(direction) for direction in directions]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def check_text(what: str, text: str) -> str:
    """Return `text` if its length is sane; raises Invalid."""
    if len(text) > MAX_TEXT:
        raise Invalid(f"{what} is longer than {MAX_TEXT} characters.")
    return text


def check_url(what: str, url: str) -> str:
    """Return `url` if others may dial it: http(s), a host, at most a port; it may be empty."""
    check_text(what, url)
    try:
        parts = urlsplit(url)
        sound = not url or (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.username is None
            and parts.path in ("", "/")
            and not (parts.query or parts.fragment)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        sound = False
    if not sound:
        raise Invalid(f"{what} {url!r} is not usable.", hint="Give it as https://HOST:PORT.")
    return url.rstrip("/")


def check_address(what: str, address: str) -> str:
    """Return `address` if it is HOST:PORT (IPv6 in brackets) or empty; raises Invalid."""
    check_text(what, address)
    if address and check_url(what, f"http://{address}") and address.rpartition(":")[2].isdigit():
        return address
    if address:
        raise Invalid(f"{what} {address!r} is not usable.", hint="Give it as HOST:PORT.")
    return address


def check_location(location: Location) -> Location:
    """Return `location` if it is on Earth; raises Invalid."""
    good = math.isfinite(location.latitude) and math.isfinite(location.longitude)
    if not good or abs(location.latitude) > 90 or abs(location.longitude) > 180:
        raise Invalid(
            f"there is no place at {location.latitude}, {location.longitude}.",
            hint="Latitude is -90 to 90, longitude -180 to 180.",
        )
    return location
