from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.contract.errors import PermissionDenied, Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation, Trust
from federation.trust.keys import new_key, signing_request
from federation.trust.peers import Peer, check_peer, peer_from_grpc, peer_from_ssl
from tests.pki import make_authority

_NOW = datetime(2026, 5, 1, tzinfo=UTC)
_R1 = PeerId("fed.test", PeerRole.ROUTER, "r1")
_PEER = Peer(id=_R1, generation=5, not_after=_NOW + timedelta(hours=1))
_TRUST = Trust(version=1, trust_domain="fed.test", roots=())


def test_a_peer_in_good_standing_is_returned() -> None:
    assert check_peer(_PEER, PeerRole.ROUTER, trust=_TRUST, now=_NOW) is _PEER


def test_expiry_is_the_first_moment_of_refusal() -> None:
    with pytest.raises(Unauthenticated, match="expired") as refusal:
        check_peer(_PEER, PeerRole.ROUTER, trust=_TRUST, now=_PEER.not_after)
    assert refusal.value.reason == "certificate-expired"


def test_a_revoked_generation_is_refused_and_the_next_is_not() -> None:
    def trust(below: int) -> Trust:
        revoked = (Revocation(uri=_R1.uri, below=below),)
        return Trust(version=2, trust_domain="fed.test", roots=(), revoked=revoked)

    with pytest.raises(Unauthenticated) as refusal:
        check_peer(_PEER, PeerRole.ROUTER, trust=trust(6), now=_NOW)
    assert refusal.value.reason == "certificate-revoked"
    check_peer(_PEER, PeerRole.ROUTER, trust=trust(5), now=_NOW)


def test_other_roles_and_other_domains_are_refused() -> None:
    with pytest.raises(PermissionDenied, match="no cluster"):
        check_peer(_PEER, PeerRole.CLUSTER, trust=_TRUST, now=_NOW)
    other = Trust(version=1, trust_domain="elsewhere.test", roots=())
    with pytest.raises(Unauthenticated, match="another trust domain"):
        check_peer(_PEER, PeerRole.ROUTER, trust=other, now=_NOW)


def test_what_ssl_tells_of_a_certificate() -> None:
    told = {
        "subjectAltName": (("URI", _R1.uri), ("DNS", _R1.dns_name)),
        "serialNumber": f"{5 << 80 | 77:X}",
        "notAfter": "May  1 01:00:00 2026 GMT",
    }
    assert peer_from_ssl(told) == _PEER


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"subjectAltName": (("DNS", "x"),), "serialNumber": "1", "notAfter": ""},
        {"subjectAltName": (("URI", _R1.uri), ("URI", _R1.uri))},
        {"subjectAltName": (("URI", "https://example.com"),)},
    ],
)
def test_certificates_without_one_identity_are_refused(told: dict[str, object] | None) -> None:
    with pytest.raises(Unauthenticated):
        peer_from_ssl(told)


def test_what_grpc_tells_of_a_certificate(tmp_path: Path) -> None:
    issued = make_authority(tmp_path).issue(signing_request(new_key()), _R1, generation=5)
    peer = peer_from_grpc({"x509_pem_cert": [issued.pem.encode()]})
    assert peer == Peer(id=_R1, generation=5, not_after=issued.not_after)
    nothings: list[dict[str, list[bytes]]] = [
        {},
        {"x509_pem_cert": []},
        {"x509_pem_cert": [b"junk"]},
    ]
    for nothing in nothings:
        with pytest.raises(Unauthenticated):
            peer_from_grpc(nothing)
