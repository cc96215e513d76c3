import asyncio
from collections.abc import AsyncIterator

import pytest

from federation.api import streams
from federation.api.streams import (
    MAX_TEXT,
    check_address,
    check_location,
    check_text,
    check_url,
    first_message,
    run_until_first,
)
from federation.contract.errors import DeadlineExceeded, Invalid
from federation.contract.types import Location


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_first_to_end_ends_all() -> None:
    cancelled = []

    async def held() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def quick() -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await run_until_first(held(), quick(), held())
    assert cancelled == [True, True]


async def test_the_first_error_is_raised() -> None:
    async def fails() -> None:
        raise Invalid("no")

    async with asyncio.timeout(5):
        with pytest.raises(Invalid, match="no"):
            await run_until_first(forever(), fails())


async def test_a_cancelled_run_cancels_all() -> None:
    task = asyncio.create_task(run_until_first(forever(), forever()))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(asyncio.all_tasks()) == 1


async def test_no_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HELLO_TIMEOUT_S", 0.01)

    async def silent() -> AsyncIterator[int]:
        await forever()
        yield 1

    async def empty() -> AsyncIterator[int]:
        return
        yield 1

    with pytest.raises(DeadlineExceeded):
        await first_message(silent())
    with pytest.raises(Invalid, match="ended before"):
        await first_message(empty())


@pytest.mark.parametrize(
    "url", ["", "http://10.0.0.5:7500", "https://eu.example.com", "http://[::1]:7500"]
)
def test_urls_to_dial(url: str) -> None:
    assert check_url("url", url) == url


def test_a_slash_at_the_end_is_dropped() -> None:
    assert check_url("url", "http://a:1/") == "http://a:1"


@pytest.mark.parametrize(
    "url",
    [
        "a:7500",
        "//a",
        "ftp://a",
        "http://",
        "http://a/path",
        "http://a?x",
        "http://a#x",
        "http://u:p@a",
        "http://u@a",
        "http://a:99999",
        "http://a:x",
        "http://a:0",
        "http://[::1",
        "http://a" + "a" * MAX_TEXT,
    ],
)
def test_urls_that_nobody_shall_dial(url: str) -> None:
    with pytest.raises(Invalid):
        check_url("url", url)


def test_long_texts() -> None:
    assert check_text("text", "x" * MAX_TEXT)
    with pytest.raises(Invalid):
        check_text("text", "x" * (MAX_TEXT + 1))


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(90.1, 0), (-90.1, 0), (0, 180.1), (0, -181), (float("nan"), 0), (0, float("inf"))],
)
def test_places_that_are_not_on_earth(latitude: float, longitude: float) -> None:
    with pytest.raises(Invalid, match="no place"):
        check_location(Location(latitude=latitude, longitude=longitude))


def test_a_place_on_earth() -> None:
    pole = Location(latitude=-90, longitude=180)
    assert check_location(pole) is pole


@pytest.mark.parametrize(
    "address", ["", "router.example.com:7402", "192.0.2.1:1", "[2001:db8::1]:7402"]
)
def test_addresses_that_others_dial(address: str) -> None:
    assert check_address("it", address) == address


@pytest.mark.parametrize(
    "address",
    [
        "host",
        "host:",
        ":7402",
        "host:0",
        "host:65536",
        "a@b:1",
        "http://host:1",
        "host:1/x",
        "h" * 3000,
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(Invalid):
        check_address("it", address)
