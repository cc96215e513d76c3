import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.spiffe import (
    GENERATION_BITS,
    PeerId,
    PeerRole,
    check_trust_domain,
    control_plane_dns_name,
    generation_of,
    parse_uri,
    serial_number,
)

_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.sampled_from(PeerRole), _NAMES)
def test_an_identity_and_its_uri_are_one(role: PeerRole, name: str) -> None:
    id = PeerId("inference.example.com", role, name)
    assert parse_uri(id.uri) == id
    assert str(id) == id.uri
    assert id.dns_name == f"{name}.{role.value}.inference.example.com"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://fed.test/cluster/eu",
        "spiffe://fed.test/cluster",
        "spiffe://fed.test/cluster/",
        "spiffe://fed.test/cluster/eu/x",
        "spiffe://fed.test/admin/eu",
        "spiffe://fed.test/cluster/EU",
        "spiffe://fed.test/cluster/-eu",
        "spiffe://fed..test/cluster/eu",
        "spiffe:///cluster/eu",
        "spiffe://fed.test/cluster/eu\n",
        "spiffe://fed.test:443/cluster/eu",
        "spiffe://user@fed.test/cluster/eu",
        "spiffe://fed.test/cluster/eu?x",
    ],
)
def test_anything_else_is_no_identity(uri: str) -> None:
    with pytest.raises(Invalid):
        parse_uri(uri)


@pytest.mark.parametrize("name", ["", "Fed", "fed_x", ".fed", "fed.", "a..b", "x" * 300])
def test_odd_trust_domains_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a trust domain"):
        check_trust_domain(name)


def test_a_control_plane_has_one_name_for_all() -> None:
    assert control_plane_dns_name("fed.test") == "control-plane.fed.test"


@given(st.integers(1, (1 << GENERATION_BITS) - 1), st.integers(0, 1 << 200))
def test_the_generation_comes_back_and_the_serial_fits(generation: int, nonce: int) -> None:
    serial = serial_number(generation, nonce)
    assert generation_of(serial) == generation
    assert 0 < serial < 1 << 159  # RFC 5280, sec. 4.1.2.2


@pytest.mark.parametrize("generation", [0, -1, 1 << GENERATION_BITS])
def test_a_generation_that_does_not_fit_is_refused(generation: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        serial_number(generation, 1)
