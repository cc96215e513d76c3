from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.contract.errors import Invalid, Unavailable
from federation.contract.spiffe import PeerId, PeerRole, serial_number
from federation.contract.trust import Revocation
from federation.identity.authority import Authority
from federation.runtime.clock import ManualClock
from federation.trust.credentials import Credentials
from router.upstream import identity as identities
from router.upstream.identity import Identity
from tests.pki import TRUST_DOMAIN, credentials_for, make_authority, trust_of

EU = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "eu")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authority(tmp_path: Path, clock: ManualClock) -> Authority:
    return make_authority(tmp_path, clock=clock)


@pytest.fixture
def mine(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.ROUTER, "r", life=timedelta(hours=1))


def shown(clock: ManualClock, id: PeerId = EU, *, generation: int = 1, nonce: int = 1) -> Any:
    """What `getpeercert()` returns for a certificate of one hour."""
    until = clock.utc() + timedelta(hours=1)
    return {
        "subjectAltName": (("URI", id.uri), ("DNS", id.dns_name)),
        "serialNumber": f"{serial_number(generation, nonce):X}",
        "notAfter": f"{until:%b %d %H:%M:%S %Y} GMT",
    }


def test_a_cluster_is_itself_until_it_expires(clock: ManualClock, mine: Credentials) -> None:
    identity, certificate = Identity(mine, clock), shown(clock)
    assert identity.name_of("eu") == "eu.cluster.fed.test"
    assert (identity.problem(certificate), identity.revoked(certificate)) == ("", "")
    clock.advance(3601)
    assert "expired at" in identity.problem(certificate)
    assert identity.revoked(certificate) == ""


def test_who_is_no_cluster_of_ours_is_told(clock: ManualClock, mine: Credentials) -> None:
    identity = Identity(mine, clock)
    router = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, "r2")
    alien = PeerId("other.test", PeerRole.CLUSTER, "eu")
    nobody: Mapping[str, Any] = {"serialNumber": "01"}
    assert "is no cluster" in identity.problem(shown(clock, router, nonce=2))
    assert "another trust domain" in identity.problem(shown(clock, alien, nonce=3))
    assert "exactly one URI" in identity.problem(nobody)
    assert "exactly one URI" in identity.revoked(nobody)


def test_revocation_ends_older_generations_only(
    clock: ManualClock, authority: Authority, mine: Credentials
) -> None:
    identity = Identity(mine, clock)
    old, new = shown(clock, generation=3), shown(clock, generation=4)
    assert identity.problem(old) == ""
    mine.keep_trust(trust_of(authority, 2, revoked=(Revocation(uri=EU.uri, below=4),)))
    assert identity.problem(old) == identity.revoked(old) == f"the certificate of {EU} is revoked"
    assert (identity.problem(new), identity.revoked(new)) == ("", "")


def test_nothing_is_dialled_without_a_valid_certificate_of_our_own(
    clock: ManualClock, mine: Credentials
) -> None:
    nobody = Identity(Credentials(None), clock)
    with pytest.raises(Invalid, match="has not joined"):
        nobody.context()
    assert nobody.trust_domain == ""
    assert "has not joined" in nobody.problem(shown(clock))
    identity = Identity(mine, clock)
    assert identity.context() is mine.client_context()
    clock.advance(3601)
    with pytest.raises(Unavailable, match="this router's certificate expired at"):
        identity.context()


def test_what_it_remembers_is_bounded(
    clock: ManualClock, mine: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_REMEMBERED", 3)
    identity = Identity(mine, clock)
    for nonce in range(20):
        assert identity.problem(shown(clock, nonce=nonce)) == ""
        assert len(identity._peers) <= 3
    assert clock.utc() > datetime(1970, 1, 1, tzinfo=UTC)
    assert "router/r" in repr(identity)
