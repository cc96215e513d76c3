"""Roots and leaves: what is signed, for whom, and which renewals are believed."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Invalid, Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.identity.authority import SKEW_CUSHION, Authority, key_digest, public_key_of
from federation.runtime.clock import ManualClock
from federation.trust.keys import facts_of, new_key, sign, signing_request, trust_domain_of
from tests.pki import TRUST_DOMAIN, credentials_for, make_authority

ID = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c")
GRACE = timedelta(days=30)


def test_a_leaf_says_what_the_control_plane_says(tmp_path: Path) -> None:
    clock = ManualClock()
    authority = make_authority(tmp_path, clock=clock)
    issued = authority.issue(signing_request(new_key()), ID, generation=7)
    facts = facts_of(issued.pem)
    assert (facts.id, facts.generation) == (ID, 7)
    assert facts.not_after == issued.not_after == clock.utc() + authority.leaf_life
    assert facts.not_before == clock.utc() - SKEW_CUSHION


def test_roots_are_kept_with_keys_for_the_owner_only_and_numbered_for_good(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    first = authority.signing
    second = authority.add_root()
    assert authority.signing == first
    assert trust_domain_of(authority.roots[second].pem) == TRUST_DOMAIN
    for path in (tmp_path / "ca").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = make_authority(tmp_path)
    assert {n: r.pin for n, r in again.roots.items()} == {
        n: r.pin for n, r in authority.roots.items()
    }
    again.signing = second
    again.remove_root(first)
    assert [path.stem for path in (tmp_path / "ca").glob("*.key")] == [second]
    assert again.add_root() not in (first, second)
    with pytest.raises(ValueError, match="signs"):
        again.remove_root(second)


def test_an_unreadable_root_is_named(tmp_path: Path) -> None:
    name = make_authority(tmp_path).signing
    (tmp_path / "ca" / f"{name}.key").write_text("x")
    with pytest.raises(Invalid, match=name):
        make_authority(tmp_path)


@pytest.mark.parametrize("csr", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n"])
def test_what_is_no_signing_request(csr: str) -> None:
    with pytest.raises(Invalid):
        public_key_of(csr)


def test_the_digest_is_that_of_the_key(tmp_path: Path) -> None:
    key = new_key()
    assert key_digest(signing_request(key)) == key_digest(signing_request(key))
    assert key_digest(signing_request(key)) != key_digest(signing_request(new_key()))


class Renewal:
    """A certificate whose bearer wants another one."""

    def __init__(self, authority: Authority) -> None:
        self.key = new_key()
        self.certificate = authority.issue(signing_request(self.key), ID, generation=3).pem
        self.csr = signing_request(new_key())
        self.proof = sign(self.key, self.csr.encode())


def check(authority: Authority, renewal: Renewal) -> int:
    return authority.check_renewal(
        renewal.certificate, renewal.csr, renewal.proof, grace=GRACE
    ).generation


def test_a_renewal_needs_a_certificate_of_ours_and_its_key(tmp_path: Path) -> None:
    authority, other = make_authority(tmp_path / "a"), make_authority(tmp_path / "b")
    renewal = Renewal(authority)
    assert check(authority, renewal) == 3
    with pytest.raises(Unauthenticated) as refusal:
        check(other, renewal)
    assert refusal.value.reason == "certificate-unknown"
    renewal.proof = sign(new_key(), renewal.csr.encode())
    with pytest.raises(Unauthenticated) as refusal:
        check(authority, renewal)
    assert refusal.value.reason == "proof-wrong"
    renewal.proof = b"nonsense"
    with pytest.raises(Unauthenticated):
        check(authority, renewal)


def test_a_proof_is_for_one_signing_request(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    renewal = Renewal(authority)
    renewal.csr = signing_request(new_key())
    with pytest.raises(Unauthenticated, match="not a signature"):
        check(authority, renewal)


def test_an_expired_certificate_is_renewed_for_a_while_also_under_an_older_root(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    authority = make_authority(tmp_path, clock=clock)
    renewal = Renewal(authority)
    authority.signing = authority.add_root()
    clock.advance((authority.leaf_life + GRACE).total_seconds() - 1)
    assert check(authority, renewal) == 3
    clock.advance(1)
    with pytest.raises(Unauthenticated, match="too long ago"):
        check(authority, renewal)


def test_a_root_is_no_leaf(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    renewal = Renewal(authority)
    renewal.certificate = authority.roots[authority.signing].pem
    with pytest.raises(Invalid):
        check(authority, renewal)


def test_a_self_made_certificate_in_our_name_is_not_renewed(tmp_path: Path) -> None:
    ours, theirs = make_authority(tmp_path / "a"), make_authority(tmp_path / "b")
    leaf, _ = credentials_for(theirs, PeerRole.CLUSTER, "c").require()
    csr = signing_request(new_key())
    with pytest.raises(Unauthenticated):
        ours.check_renewal(leaf.certificate, csr, sign(leaf.key, csr.encode()), grace=GRACE)
