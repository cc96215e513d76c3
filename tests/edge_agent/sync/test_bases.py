"""Differences reach clusters that have the old version, and those that never had it."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from blake3 import blake3

from edge_agent.sync.bases import bases_for
from edge_agent.sync.offers import Offer
from federation.chunking.encoding import encode
from federation.contract.errors import Invalid
from federation.contract.locations import Locations, Place, pack_places
from federation.contract.spiffe import PeerRole
from federation.contract.types import Urgency
from federation.identity.authority import Authority
from tests.edge_agent.sync.store import Package, Store, make_package, serving
from tests.edge_agent.sync.test_transfer import transfers_of
from tests.pki import credentials_for, make_authority

KIB = 1 << 10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


def tuned(data: bytes, seed: int) -> bytes:
    """Return bytes that differ in each 50th place."""
    changed = bytearray(data)
    changed[::50] = random.Random(seed).randbytes(len(changed[::50]))
    return bytes(changed)


class Tuned:
    """A version whose chunks 0 to 4 are stored as differences to those of an old one."""

    def __init__(self, store: Store) -> None:
        self.package: Package = make_package(store, [64 * KIB] * 6)
        self.bases = [tuned(data, n) for n, data in enumerate(self.package.chunks[:5])]
        stored = [
            *(encode(self.package.chunks[n], 0x82, base) for n, base in enumerate(self.bases)),
            self.package.chunks[5],
        ]
        ends = [sum(map(len, stored[:n])) for n in range(7)]
        store.objects["/packs/a"] = b"".join(stored)
        store.objects["/packs/old"] = b"".join(self.bases)
        old = replace(self.package.locations.packs[0], id="old", url=f"{store.url}/packs/old")
        codes = [0x82] * 5 + [0]
        self.package.locations = Locations(
            packs=(*self.package.locations.packs, old),
            places=pack_places(
                Place(0, ends[n], len(data), codes[n]) for n, data in enumerate(stored)
            ),
            bases={n: blake3(base).hexdigest() for n, base in enumerate(self.bases)},
            base_places=pack_places(Place(1, n * 64 * KIB, 64 * KIB) for n in range(5)),
            good_for_s=600,
        )

    def offer(self, *here: int) -> Offer:
        """Return an offer to a cluster that has these old chunks."""
        held = {blake3(self.bases[n]).digest(): self.bases[n] for n in here}
        offer = self.package.offer()
        offer.base_of = held.get
        return offer


async def bring(authority: Authority, store: Store, tuned: Tuned, offer: Offer) -> int:
    async with transfers_of(credentials_for(authority, PeerRole.CLUSTER, "c"), store.url) as moving:
        package = tuned.package
        return await moving.from_origin(package.wanted, offer, package.put, Urgency.NORMAL)


async def test_a_cluster_with_the_old_version_fetches_differences_only(
    authority: Authority, store: Store
) -> None:
    made = Tuned(store)
    await bring(authority, store, made, made.offer(*range(5)))
    assert made.package.whole
    assert {ask.path for ask in store.asked} == {"/packs/a"}
    assert store.sent_bytes < 64 * KIB * 2


async def test_a_cluster_without_it_fetches_the_bases_that_it_lacks(
    authority: Authority, store: Store
) -> None:
    made = Tuned(store)
    received = await bring(authority, store, made, made.offer(0, 3))
    assert made.package.whole
    asked = sorted((ask.first, ask.count) for ask in store.asked if ask.path == "/packs/old")
    assert asked == [(64 * KIB, 128 * KIB), (256 * KIB, 64 * KIB)]
    assert received == store.sent_bytes


async def test_what_is_on_the_disk_is_held_and_the_rest_is_lacking(store: Store) -> None:
    made = Tuned(store)
    wanted = made.package.wanted
    found = await bases_for(wanted[1:], made.offer(2))
    assert list(found.held.values()) == [made.bases[2]]
    assert [one.digest for one in found.lacking] == [
        blake3(made.bases[n]).digest() for n in (1, 3, 4)
    ]
    found.put(1, memoryview(made.bases[3]))
    assert found.held[blake3(made.bases[3]).digest()] == made.bases[3]
    plain = await bases_for(wanted[5:], made.offer())
    assert (plain.held, plain.lacking) == ({}, ())


async def test_a_base_with_other_bytes_or_with_a_base_is_refused(
    authority: Authority, store: Store
) -> None:
    made = Tuned(store)
    store.objects["/packs/old"] = bytes(320 * KIB)
    with pytest.raises(Invalid, match="not the one"):
        await bring(authority, store, made, made.offer())
    chained = replace(
        made.package.locations, base_places=pack_places([Place(1, 0, 64 * KIB, 0x82)] * 5)
    )
    made.package.locations = chained
    with pytest.raises(Invalid, match="cannot be"):
        await bring(authority, store, made, made.offer())
    assert made.package.put_chunks == {}
