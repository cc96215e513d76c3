import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerId, PeerRole
from federation.trust.keys import (
    belong_together,
    facts_of,
    new_key,
    sign,
    signing_request,
    split_pem,
    trust_domain_of,
)
from tests.pki import credentials_for, make_authority

_EU = PeerId("fed.test", PeerRole.CLUSTER, "eu")


def test_a_certificate_tells_who_which_join_and_until_when(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    issued = authority.issue(signing_request(new_key()), _EU, generation=42)
    facts = facts_of(issued.pem)
    assert (facts.id, facts.generation) == (_EU, 42)
    assert facts.not_after == issued.not_after
    assert facts.not_before < facts.not_after


def test_a_signature_proves_the_private_key() -> None:
    key = new_key()
    public = x509.load_pem_x509_csr(signing_request(key).encode()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(sign(key, b"data"), b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(sign(new_key(), b"data"), b"data", ec.ECDSA(hashes.SHA256()))


def test_certificate_and_key_belong_together_or_not(tmp_path: Path) -> None:
    key = new_key()
    issued = make_authority(tmp_path).issue(signing_request(key), _EU, generation=1)
    assert belong_together(issued.pem, key)
    assert not belong_together(issued.pem, new_key())
    with pytest.raises(Invalid, match="no certificate"):
        belong_together("x", key)


@pytest.mark.parametrize("key", ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_is_none_is_told_without_repeating_it(key: str) -> None:
    with pytest.raises(Invalid, match="private key") as caught:
        signing_request(key)
    assert "AAAA" not in caught.value.sentence()


def test_every_key_is_another(tmp_path: Path) -> None:
    assert new_key() != new_key()


def test_a_root_names_its_trust_domain_and_no_peer(tmp_path: Path) -> None:
    (root,) = make_authority(tmp_path).roots.values()
    assert trust_domain_of(root.pem) == "fed.test"
    with pytest.raises(Invalid):
        facts_of(root.pem)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END"])
def test_what_is_no_certificate_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(Invalid, match="no certificate"):
        facts_of(text)
    with pytest.raises(Invalid, match="no root"):
        trust_domain_of(text)


def test_a_bundle_is_split_into_its_certificates(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    authority.add_root()
    pems = [root.pem for root in authority.roots.values()]
    assert [part.strip() for part in split_pem("".join(pems))] == [p.strip() for p in pems]
    assert split_pem("") == ()


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),  # an extension twice
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),  # version 10
        (b"\x86\x1espiffe", b"\xa3\x1espiffe"),  # a name of a kind that nobody uses
        (b"\x86\x1espiffe", b"\x86\x1espiff\xff"),
        (b"\x30\x59\x30\x13", b"\x30\x59\x30\x12"),
    ],
)
def test_a_certificate_that_breaks_readers_is_refused(
    tmp_path: Path, there: bytes, instead: bytes
) -> None:
    pem = (
        credentials_for(make_authority(tmp_path), PeerRole.CLUSTER, "eu-1").require()[0].certificate
    )
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert there in der
    with pytest.raises(Invalid):
        facts_of(ssl.DER_cert_to_PEM_cert(der.replace(there, instead)))
