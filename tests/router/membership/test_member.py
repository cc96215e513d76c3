import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid, Unavailable
from federation.contract.spiffe import PeerRole
from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from federation.trust.renewal import Patience
from router.geo import Locator
from router.membership import tablefile
from router.membership.member import Member
from router.membership.watch import SNAPSHOT_FILE
from router.settings import Settings
from router.state import RouterState
from tests.pki import credentials_for, make_authority
from tests.router.fakes import eventually, make_snapshot
from tests.router.registrar import Registrar, registrar

URLS = {"eu-1": "https://h:1"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def settings_for(tmp_path: Path, desk: Registrar | None = None) -> Settings:
    token = tmp_path / "token"
    token.write_text("fed_routerjoin_r1_secret\n")
    return Settings(
        name="r1",
        control_plane=desk.grpc_address if desk else "127.0.0.1:1",
        control_plane_url=desk.url if desk else "https://127.0.0.1:1",
        join_token_file=str(token) if desk else "",
        ca_pin=desk.pin if desk else "",
        state_dir=str(tmp_path / "state"),
        reverse_listen="127.0.0.1:0",
    )


def make(settings: Settings) -> tuple[Member, RouterState]:
    state = RouterState(name=settings.name, clock=SystemClock(), dice=random.Random(0))
    return Member(settings, state, patience=Patience(acceptance_s=0.1)), state


@asynccontextmanager
async def living(member: Member) -> AsyncIterator[None]:
    loop, locator = asyncio.get_running_loop(), Locator()
    tasks = [
        loop.create_task(member.membership.run()),
        loop.create_task(member.follow(locator, "http://pop:7400")),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await member.close()
        locator.close()


async def test_it_joins_opens_its_door_and_follows_the_control_plane(
    tmp_path: Path, authority: Authority
) -> None:
    async with registrar(authority) as desk:
        desk.waiting = True
        member, state = make(settings_for(tmp_path, desk))
        assert desk.stream is not None
        async with living(member):
            await eventually(lambda: "accept" in member.membership.reason)
            with pytest.raises(Unavailable, match="has not joined") as caught:
                state.require_ready()
            assert "operator has to accept" in caught.value.hint
            desk.waiting = False
            await eventually(lambda: desk.stream is not None and bool(desk.stream.told("hello")))
            hello = desk.stream.told("hello")[0].hello
            assert hello.url == "http://pop:7400"
            assert int(hello.reverse_address.removeprefix("127.0.0.1:")) > 0
            assert [peer.id.uri for peer in desk.stream.peers] == ["spiffe://fed.test/router/r1"]
            desk.stream.send(make_snapshot(URLS, version=3))
            await eventually(lambda: state.table is not None)
            state.require_ready()
        assert state.reach.secure
        assert "router/r1" in repr(member)
    kept = tmp_path / "state" / SNAPSHOT_FILE
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_it_moves_to_a_new_stream_with_each_renewal(
    tmp_path: Path, authority: Authority
) -> None:
    async with registrar(authority, life=timedelta(seconds=3)) as desk:
        member, _ = make(settings_for(tmp_path, desk))
        async with living(member):
            await eventually(
                lambda: desk.stream is not None and len(desk.stream.told("hello")) > 2, within_s=10
            )
        assert desk.asked.count("join") == 1
        assert member.membership.renewals >= 2


async def test_a_router_that_joined_before_starts_without_a_control_plane(
    tmp_path: Path, authority: Authority
) -> None:
    settings = settings_for(tmp_path)
    with pytest.raises(Invalid, match="there is no join token"):
        make(settings)
    directory = tmp_path / "state"
    credentials_for(authority, PeerRole.ROUTER, "r1", directory=directory / "identity")
    tablefile.save(directory / SNAPSHOT_FILE, make_snapshot(URLS, version=9))
    member, state = make(settings)
    locator = Locator()
    member.begin(locator)
    locator.close()
    state.require_ready()
    assert state.require_table().version == 9
    await member.open_door()
    await member.open_door()
    assert member.reverse is not None
    await member.close()


async def test_a_door_that_is_taken_is_told(tmp_path: Path, authority: Authority) -> None:
    directory = tmp_path / "state" / "identity"
    credentials_for(authority, PeerRole.ROUTER, "r1", directory=directory)
    first, _ = make(settings_for(tmp_path))
    await first.open_door()
    assert first.reverse is not None
    taken = Settings(
        name="r1",
        control_plane="127.0.0.1:1",
        state_dir=str(tmp_path / "state"),
        reverse_listen=first._reverse_address,
    )
    second, _ = make(taken)
    with pytest.raises(Conflict, match="is in use"):
        await second.open_door()
    await first.close()


async def test_the_identity_of_another_router_is_not_worn(
    tmp_path: Path, authority: Authority
) -> None:
    directory = tmp_path / "state" / "identity"
    credentials_for(authority, PeerRole.ROUTER, "r2", directory=directory)
    with pytest.raises(Invalid, match="not of the router 'r1'"):
        make(settings_for(tmp_path))
