"""Whether the engine answers others."""

import asyncio

import pytest

from edge_agent import exposure
from edge_agent.exposure import is_loopback, own_addresses, warn_if_exposed


def test_what_loopback_is() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("10.0.0.1", "engine.svc", "", "localhost.evil.example"):
        assert not is_loopback(host)
    assert not any(map(is_loopback, own_addresses()))


@pytest.mark.parametrize(("other", "told"), [("127.0.0.2", True), ("127.0.0.3", False)])
async def test_an_engine_that_answers_elsewhere_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, other: str, told: bool
) -> None:
    """127.0.0.2 plays the part of an address that others know."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(exposure, "own_addresses", lambda: (other, other))
    await warn_if_exposed(f"http://127.0.0.1:{port}")
    server.close()
    await server.wait_closed()
    assert caplog.text.count("needs no certificate") == told


async def test_an_engine_elsewhere_is_the_operators_matter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        await warn_if_exposed("http://triton.models.svc:8000")
    assert "let only this agent reach it" in caplog.text
