"""An offer knows where chunks lie now, and asks again once for all who saw it grow old."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_agent.sync.offers import Offer
from federation.contract.errors import Invalid, NotFound
from federation.contract.locations import Locations, Place, pack_places, places_of
from federation.runtime.clock import ManualClock
from tests.edge_agent.sync.store import Package, Store, make_package, serving


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
def package(store: Store) -> Package:
    return make_package(store, [10, 20, 30])


def test_places_follow_the_order_of_first_use(package: Package) -> None:
    offer = package.offer()
    assert [offer.place_of(chunk.digest).offset for chunk in package.wanted] == [0, 10, 30]
    with pytest.raises(NotFound):
        offer.place_of(bytes(32))


def test_locations_that_do_not_fit_are_refused(package: Package) -> None:
    fewer = pack_places(list(places_of(package.locations))[:2])
    for places in (fewer, b"", package.locations.places[:-1]):
        package.locations = replace(package.locations, places=places)
        with pytest.raises(Invalid):
            package.offer()


async def test_many_who_saw_the_same_ask_once(package: Package) -> None:
    offer = package.offer()
    await asyncio.gather(*(offer.refresh(0) for _ in range(5)))
    assert (package.loads, offer.generation) == (1, 1)
    await offer.refresh(0)
    assert package.loads == 1
    await offer.refresh(1)
    assert (package.loads, offer.generation) == (2, 2)


async def test_urls_grow_old(package: Package) -> None:
    clock = ManualClock()

    async def load() -> Locations:
        return package.locations

    offer = Offer(package.manifest, package.locations, load, clock=clock)
    clock.advance(594)
    assert not offer.expired
    clock.advance(1)
    assert offer.expired
    await offer.refresh(0)
    assert not offer.expired
    package.locations = replace(package.locations, good_for_s=0)  # not known: never
    await offer.refresh(1)
    clock.advance(1e9)
    assert not offer.expired


def test_bases_have_places_of_their_own(package: Package) -> None:
    base, place = b"\xab" * 32, Place(0, 3, 4)
    package.locations = replace(
        package.locations, bases={1: base.hex()}, base_places=pack_places([place])
    )
    offer = package.offer()
    assert [offer.base_for(chunk.digest) for chunk in package.wanted] == [b"", base, b""]
    assert offer.place_of(base) == place
    assert offer.base_for(base) == b""
    for wrong in (
        replace(package.locations, bases={1: "zz"}),
        replace(package.locations, base_places=b""),
    ):
        package.locations = wrong
        with pytest.raises(Invalid, match="bases"):
            package.offer()
