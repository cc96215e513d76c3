import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerRole
from federation.identity.authority import Authority
from federation.relay.server import listen, make_runner
from router.public_tls import PublicTls, check_exposure
from tests.pki import credentials_for, make_authority


class Files:
    """A certificate in two files, written as certbot does: new files, then two links moved."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.certificate, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.round = 0

    def write(self) -> tuple[Path, Path]:
        """Write another pair beside the one in use."""
        self.round += 1
        leaf = credentials_for(self.authority, PeerRole.ROUTER, f"r{self.round}").leaf
        assert leaf is not None
        paths = []
        for name, text in (("fullchain", leaf.certificate), ("privkey", leaf.key)):
            path = self.folder / f"{name}{self.round}.pem"
            path.write_text(text)
            paths.append(path)
        return paths[0], paths[1]

    def renew(self) -> None:
        certificate, key = self.write()
        self.link(self.certificate, certificate)
        self.link(self.key, key)

    def link(self, where: Path, to: Path) -> None:
        new = where.with_suffix(".new")
        new.symlink_to(to.name)
        os.replace(new, where)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path, make_authority(tmp_path))
    found.renew()
    return found


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = make_runner(app)
    try:
        yield (await listen(runner, "127.0.0.1:0", context))[1]
    finally:
        await runner.cleanup()


async def shown(port: int, trusted: ssl.SSLContext) -> str:
    """Return whose certificate a new connection sees."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusted, server_hostname="localhost"
    )
    try:
        found = writer.get_extra_info("peercert")
        return str(found["subjectAltName"][0][1]).rpartition("/")[2]
    finally:
        writer.close()
        await writer.wait_closed()


def trust(files: Files) -> ssl.SSLContext:
    roots = "".join(root.pem for root in files.authority.roots.values())
    return ssl.create_default_context(cadata=roots)


async def test_new_connections_see_the_new_certificate_and_old_ones_go_on(files: Files) -> None:
    tls, trusted = PublicTls(files.certificate, files.key), trust(files)
    async with serving(tls.context) as port, aiohttp.ClientSession() as session:
        url = f"https://localhost:{port}/"
        async with session.get(url, ssl=trusted) as response:
            assert await response.text() == "ok"
        assert await shown(port, trusted) == "r1"
        assert not tls.reload()
        files.renew()
        assert await shown(port, trusted) == "r1"
        assert tls.reload()
        assert await shown(port, trusted) == "r2"
        async with session.get(url, ssl=trusted) as response:  # on the connection of before
            assert await response.text() == "ok"


async def test_a_renewal_seen_half_done_changes_nothing_until_it_is_whole(files: Files) -> None:
    tls, trusted = PublicTls(files.certificate, files.key), trust(files)
    async with serving(tls.context) as port:
        certificate, key = files.write()
        files.link(files.certificate, certificate)
        assert not tls.reload()  # the new certificate with the old key
        assert await shown(port, trusted) == "r1"
        files.link(files.key, key)
        assert tls.reload()
        assert await shown(port, trusted) == "r2"
        files.key.unlink()
        assert not tls.reload()
        assert await shown(port, trusted) == "r2"


async def test_a_hangup_has_the_files_read_at_once(files: Files) -> None:
    tls, trusted, hung_up = PublicTls(files.certificate, files.key), trust(files), asyncio.Event()
    async with serving(tls.context) as port, asyncio.TaskGroup() as group:
        following = group.create_task(tls.follow(hung_up))
        files.renew()
        hung_up.set()
        async with asyncio.timeout(10):
            while await shown(port, trusted) != "r2":
                await asyncio.sleep(0.01)
        following.cancel()


async def test_old_tls_and_plain_text_are_refused(files: Files) -> None:
    tls, trusted = PublicTls(files.certificate, files.key), trust(files)
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    async with serving(tls.context) as port:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://127.0.0.1:{port}/")
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await shown(port, trusted) == "r1"


@pytest.mark.parametrize(
    "change",
    [
        (lambda files: files.key.unlink()),
        (lambda files: shutil.copy(files.certificate, files.key)),
        (lambda files: files.link(files.key, files.write()[1])),
        (lambda files: files.link(files.certificate, files.folder / "nothing.pem")),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused_at_the_start(
    files: Files, change: Callable[[Files], object]
) -> None:
    change(files)
    with pytest.raises(Invalid, match="cannot be used"):
        PublicTls(files.certificate, files.key)


@pytest.mark.parametrize(
    "listen_on", ["127.0.0.1:7400", "127.9.9.9:1", "[::1]:7400", "localhost:7400"]
)
def test_the_machine_itself_may_speak_plain_text(listen_on: str) -> None:
    check_exposure(listen_on, tls=False, insecure=False)


@pytest.mark.parametrize(
    "listen_on", ["0.0.0.0:7400", "[::]:7400", "10.0.0.1:80", "router.example:80", ":80"]
)
def test_a_network_gets_tls_or_somebody_has_to_say_so(listen_on: str) -> None:
    with pytest.raises(Invalid, match="in plain text") as caught:
        check_exposure(listen_on, tls=False, insecure=False)
    assert "--tls-certificate" in caught.value.hint
    assert "--insecure-listen" in caught.value.hint
    check_exposure(listen_on, tls=True, insecure=False)
    check_exposure(listen_on, tls=False, insecure=True)
