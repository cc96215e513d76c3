"""TLS made of credentials, on real sockets: who is let in, and what rotation changes."""

import asyncio
import contextlib
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Trust
from federation.trust.credentials import IDENTITY_FILE, TRUST_FILE, Credentials
from federation.trust.peers import peer_from_ssl
from tests.pki import credentials_for, issue_into, make_authority, trust_of

_EU = PeerId("fed.test", PeerRole.CLUSTER, "eu")
_REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@contextlib.asynccontextmanager
async def _serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Yield the port of a server that says whom it sees."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        name = peer_from_ssl(certificate).id.name if certificate else "nobody"
        writer.write(f"{name}\n".encode())
        with contextlib.suppress(*_REFUSED):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _ask(port: int, context: ssl.SSLContext, name: str) -> str:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        return (await reader.readuntil(b"\n")).decode().strip()
    finally:
        writer.close()
        with contextlib.suppress(*_REFUSED):
            await writer.wait_closed()


async def test_both_sides_know_whom_they_speak_with(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    server = credentials_for(authority, PeerRole.CLUSTER, "eu")
    client = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with _serving(server.server_context()) as port:
        assert await _ask(port, client.client_context(), _EU.dns_name) == "r1"
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await _ask(port, client.client_context(), "us.cluster.fed.test")


async def test_strangers_and_those_of_another_authority_are_refused(tmp_path: Path) -> None:
    authority, other = make_authority(tmp_path / "a"), make_authority(tmp_path / "b")
    server = credentials_for(authority, PeerRole.CLUSTER, "eu")
    foreign = credentials_for(other, PeerRole.ROUTER, "r1")
    nobody = ssl.create_default_context(cadata=trust_of(authority).bundle)
    async with _serving(server.server_context()) as port:
        with pytest.raises(_REFUSED):
            await _ask(port, nobody, _EU.dns_name)
        with pytest.raises(ssl.SSLCertVerificationError):
            await _ask(port, foreign.client_context(), _EU.dns_name)
        foreign.keep_trust(trust_of(authority, 2))  # it trusts us; we do not trust it
        with pytest.raises(_REFUSED):
            await _ask(port, foreign.client_context(), _EU.dns_name)


async def test_where_certificates_are_optional_a_stranger_is_nobody_and_a_forger_refused(
    tmp_path: Path,
) -> None:
    authority, other = make_authority(tmp_path / "a"), make_authority(tmp_path / "b")
    server = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
    client = credentials_for(authority, PeerRole.CLUSTER, "eu")
    forger = credentials_for(other, PeerRole.CLUSTER, "eu")
    forger.keep_trust(trust_of(authority, 2))
    nobody = ssl.create_default_context(cadata=trust_of(authority).bundle)
    async with _serving(server.server_context(demand_clients=False)) as port:
        assert await _ask(port, nobody, "localhost") == "nobody"
        assert await _ask(port, client.client_context(), "control-plane.fed.test") == "eu"
        with pytest.raises(_REFUSED):
            await _ask(port, forger.client_context(), "control-plane.fed.test")


async def test_a_listener_follows_new_certificates_and_the_removal_of_a_root(
    tmp_path: Path,
) -> None:
    authority = make_authority(tmp_path)
    server = credentials_for(authority, PeerRole.CLUSTER, "eu")
    old = credentials_for(authority, PeerRole.ROUTER, "old")
    authority.signing = authority.add_root()
    new = credentials_for(authority, PeerRole.ROUTER, "new")
    async with _serving(server.server_context()) as port:
        server.keep_trust(trust_of(authority, 2))
        for client in (old, new):  # both roots hold
            client.keep_trust(trust_of(authority, 2))
            assert await _ask(port, client.client_context(), _EU.dns_name)
        issue_into(server, authority, _EU)
        newest = authority.roots[authority.signing].pem
        server.keep_trust(Trust(version=3, trust_domain="fed.test", roots=(newest,)))
        assert await _ask(port, new.client_context(), _EU.dns_name) == "new"
        with pytest.raises(_REFUSED):
            await _ask(port, old.client_context(), _EU.dns_name)


def test_contexts_for_dialling_are_new_after_each_change_and_the_same_between(
    tmp_path: Path,
) -> None:
    authority = make_authority(tmp_path)
    client = credentials_for(authority, PeerRole.ROUTER, "r1")
    changes: list[None] = []
    client.on_change.append(lambda: changes.append(None))
    first = client.client_context()
    assert client.client_context() is first
    issue_into(client, authority, PeerId("fed.test", PeerRole.ROUTER, "r1"))
    second = client.client_context()
    assert second is not first
    assert client.keep_trust(trust_of(authority, 2))
    assert client.client_context() is not second
    assert not client.keep_trust(trust_of(authority, 2))  # no newer than what is held
    assert len(changes) == 2


def test_what_is_on_disk_comes_back_and_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    folder = tmp_path / "identity"
    written = credentials_for(authority, PeerRole.CLUSTER, "eu", generation=9, directory=folder)
    read = Credentials(folder)
    assert read.require() == written.require()
    assert stat.S_IMODE((folder / IDENTITY_FILE).stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(read)


def test_an_empty_directory_is_an_identity_not_yet_joined(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    assert not credentials.complete
    with pytest.raises(Invalid, match="has not joined"):
        credentials.client_context()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    folder = tmp_path / "identity"
    credentials_for(authority, PeerRole.CLUSTER, "eu", directory=folder)
    (folder / TRUST_FILE).write_text("{")
    with pytest.raises(Invalid, match=r"trust\.json cannot be read"):
        Credentials(folder)


def test_grpc_gets_a_new_configuration_only_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks at each handshake; replacing one while others begin can end the process."""
    asked: list[Callable[[], object]] = []

    def dynamic(first: object, newer: Callable[[], object], **_: object) -> object:
        asked.append(newer)
        return first

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", dynamic)
    authority = make_authority(tmp_path)
    held = credentials_for(authority, PeerRole.CLUSTER, "eu")
    held.server_credentials()
    (newer,) = asked
    assert [newer(), newer()] == [None, None]
    issue_into(held, authority, PeerId("fed.test", PeerRole.CLUSTER, "eu"))
    assert newer() is not None
    assert newer() is None
