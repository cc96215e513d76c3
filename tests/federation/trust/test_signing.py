from dataclasses import replace

import pytest

from federation.contract.errors import Invalid
from federation.contract.release import Release, Signature, release_of, seal
from federation.trust.keys import new_key
from federation.trust.signing import (
    check_public_key,
    new_signing_key,
    public_key,
    sign_envelope,
    signers,
    verified,
)

RELEASE = Release(model="m", manifest="ab" * 32, size=7, sequence=5, created=1)
KEY, OTHER = new_signing_key(), new_signing_key()


def test_what_a_trusted_key_signed_is_verified() -> None:
    envelope = sign_envelope(OTHER, sign_envelope(KEY, seal(RELEASE)))
    assert verified(envelope, {public_key(KEY)}) == RELEASE
    both = {public_key(KEY), public_key(OTHER)}
    assert signers(envelope, both) == both
    assert signers(envelope, ()) == frozenset()


def test_what_nobody_trusted_signed_is_refused() -> None:
    with pytest.raises(Invalid, match="none of the trusted keys, but by nobody"):
        verified(seal(RELEASE), {public_key(KEY)})
    with pytest.raises(Invalid, match=f"but by {public_key(OTHER)[:16]}"):
        verified(sign_envelope(OTHER, seal(RELEASE)), {public_key(KEY)})


def test_an_altered_payload_and_a_borrowed_signature_are_refused() -> None:
    good = sign_envelope(KEY, seal(RELEASE))
    other = seal(replace(RELEASE, manifest="cd" * 32))
    borrowed = replace(other, signatures=good.signatures)
    assert release_of(borrowed).manifest == "cd" * 32
    for envelope in (
        borrowed,
        replace(good, payloadType="application/json"),
        replace(good, signatures=(replace(good.signatures[0], sig="AAAA"),)),
        replace(good, signatures=(replace(good.signatures[0], sig="no base64"),)),
        replace(good, signatures=(Signature(keyid=public_key(OTHER), sig=good.signatures[0].sig),)),
    ):
        with pytest.raises(Invalid):
            verified(envelope, {public_key(KEY), public_key(OTHER)})


def test_keys_of_other_kinds_are_refused() -> None:
    for bad in (new_key(), "no key"):
        with pytest.raises(Invalid, match="signing key"):
            public_key(bad)
    assert check_public_key(public_key(KEY).upper()) == public_key(KEY)
    for text in ("", "zz" * 32, "ab"):
        with pytest.raises(Invalid, match="public key"):
            check_public_key(text)
