import asyncio
from datetime import timedelta
from pathlib import Path

from federation.contract.spiffe import PeerRole
from federation.identity.authority import Authority
from federation.identity.own import OwnLeaf
from federation.runtime.clock import Clock, SystemClock
from tests.pki import TRUST_DOMAIN


def made(tmp_path: Path, clock: Clock, life: timedelta = timedelta(hours=1)) -> OwnLeaf:
    authority = Authority(tmp_path, trust_domain=TRUST_DOMAIN, clock=clock, leaf_life=life)
    roots = tuple(root.pem for root in authority.roots.values())
    return OwnLeaf(
        authority, name="main", roots=roots, clock=clock, hosts=("fed.example.com", "127.0.0.1")
    )


def test_the_control_plane_is_ready_to_serve_at_once(tmp_path: Path) -> None:
    own = made(tmp_path, SystemClock())
    leaf, trust = own.credentials.require()
    assert leaf.facts.id.role is PeerRole.CONTROL_PLANE
    assert trust.version == 0  # whatever is published replaces it
    assert own.credentials.server_context(demand_clients=False).sni_callback is not None
    assert not list(tmp_path.glob("identity*"))  # its key is in memory only


async def test_it_renews_at_half_of_its_life(tmp_path: Path) -> None:
    own = made(tmp_path, SystemClock(), timedelta(seconds=3))
    first, renewed = own.credentials.leaf, asyncio.Event()
    own.credentials.on_change.append(renewed.set)
    task = asyncio.get_running_loop().create_task(own.run())
    try:
        async with asyncio.timeout(10):
            await renewed.wait()
        assert own.credentials.leaf is not first
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_it_follows_the_root_that_signs(tmp_path: Path) -> None:
    own = made(tmp_path, SystemClock())
    first = own.credentials.leaf
    own._authority.add_root()
    own.roots_changed()
    assert own.credentials.leaf is first
    own._authority.signing = list(own._authority.roots)[-1]
    own.roots_changed()
    assert own.credentials.leaf is not first
