import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from router.geo import Locator

DATA = Path(__file__).parent / "data"
TRUSTED = ("10.0.0.0/8", "fd00::/8")


@pytest.fixture(scope="module")
def locator() -> Iterator[Locator]:
    locator = Locator(trusted_proxies=TRUSTED)
    yield locator
    locator.close()


@pytest.mark.parametrize(
    ("address", "country", "latitude", "longitude"),
    [
        ("130.225.0.1", "DK", 55, 12),
        ("133.11.0.1", "JP", 35, 139),
        ("200.144.0.1", "BR", -23, -46),
        ("2001:6b0::1", "SE", 59, 18),
    ],
)
def test_an_address_has_a_place(
    locator: Locator, address: str, country: str, latitude: float, longitude: float
) -> None:
    place = locator.locate(address)
    assert place is not None
    assert place.country == country
    assert place.location is not None
    assert place.location.latitude == pytest.approx(latitude, abs=5)
    assert place.location.longitude == pytest.approx(longitude, abs=8)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "", "nonsense", "1.2.3.4.5"])
def test_unknown_is_a_value(locator: Locator, address: str) -> None:
    assert locator.locate(address) is None


def test_it_says_what_it_reads(locator: Locator) -> None:
    assert repr(locator).startswith("Locator(Federation-Lite-City, built 20")
    assert locator.compiled
    locator.locate("133.11.0.1")
    started = time.thread_time()
    for _ in range(1000):
        locator.locate("133.11.0.1")
    assert time.thread_time() - started < 0.1


def test_a_country_database_gives_a_country_without_a_point() -> None:
    locator = Locator(DATA / "GeoLite2-Country-Test.mmdb")
    place = locator.locate("81.2.69.160")
    assert place is not None
    assert (place.country, place.location) == ("GB", None)
    locator.close()
    with pytest.raises(Invalid, match="has no places"):
        Locator(DATA / "GeoLite2-ASN-Test.mmdb")


def test_a_bad_database_is_named(tmp_path: Path) -> None:
    for content in (None, b"not a database"):
        path = tmp_path / "x.mmdb"
        if content:
            path.write_bytes(content)
        with pytest.raises(Invalid, match="Cannot read the geo database"):
            Locator(path)
    with pytest.raises(Invalid, match="is no network"):
        Locator(trusted_proxies=["10.0.0.0/8", "somewhere"])


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("5.6.7.8", [], "5.6.7.8"),
        ("5.6.7.8", ["1.1.1.1"], "5.6.7.8"),  # nobody we trust said so
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2, 10.9.9.9"], "2.2.2.2"),
        ("10.0.0.1", ["2.2.2.2:4711"], "2.2.2.2"),
        ("fd00::1", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("::ffff:10.0.0.1", ["::ffff:2.2.2.2"], "2.2.2.2"),
        ("10.0.0.1", ["3.3.3.3, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_the_rightmost_untrusted_hop_is_the_client(
    locator: Locator, peer: str, lines: list[str], client: str
) -> None:
    assert locator.client_address(peer, lines) == client


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
HOPS = st.lists(st.one_of(ADDRESSES, st.sampled_from(["10.0.0.9", "fd00::2", "junk", ""])))


@given(forged=HOPS, client=ADDRESSES, inner=st.lists(st.sampled_from(["10.1.1.1", "fd00::7"])))
def test_what_a_client_writes_into_the_header_changes_nothing(
    locator: Locator, forged: list[str], client: str, inner: list[str]
) -> None:
    parsed = ipaddress.ip_address(client)
    if any(parsed in ipaddress.ip_network(network) for network in TRUSTED):
        return
    honest = locator.client_address("10.0.0.1", [", ".join([client, *inner])])
    spoofed = locator.client_address("10.0.0.1", [", ".join([*forged, client, *inner])])
    assert spoofed == honest


@given(st.text(), st.lists(st.text()))
def test_no_header_makes_it_fail(locator: Locator, peer: str, lines: list[str]) -> None:
    locator.locate(locator.client_address(peer, lines))


@pytest.mark.parametrize("zone", ["eth0", "a\x00b", "%", "10.0.0.1", ""])
def test_a_zone_is_no_part_of_an_address(locator: Locator, zone: str) -> None:
    assert locator.client_address("10.0.0.1", [f"2001:db8::1%{zone}"]) == "2001:db8::1"
    assert locator.locate(f"2001:db8::1%{zone}") == locator.locate("2001:db8::1")
