import json
from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.release import (
    Envelope,
    Release,
    envelope_bytes,
    parse_envelope,
    pre_authentication,
    release_of,
    seal,
)

RELEASE = Release(
    model="m", manifest="ab" * 32, size=7, sequence=5, created=1_700_000_000, source="hf://o/m@1"
)


def test_what_was_sealed_is_read_again() -> None:
    envelope = parse_envelope(envelope_bytes(seal(RELEASE).signed_by("aa", b"sig")))
    assert release_of(envelope) == RELEASE
    assert [s.keyid for s in envelope.signatures] == ["aa"]


def test_a_key_signs_once() -> None:
    envelope = seal(RELEASE).signed_by("aa", b"1").signed_by("bb", b"2").signed_by("aa", b"3")
    assert [s.keyid for s in envelope.signatures] == ["bb", "aa"]


def test_the_signed_bytes_are_those_of_dsse() -> None:
    """The example of the DSSE specification, protocol.md, section "Test Vectors"."""
    envelope = Envelope(
        payloadType="http://example.com/HelloWorld", payload=b64encode(b"hello world").decode()
    )
    assert pre_authentication(envelope) == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"model": 1},
        {"sequence": -1},
        {"expires": "never"},
        {"size": -1},
    ],
)
def test_a_malformed_payload_is_refused(bad: dict[str, object]) -> None:
    payload = json.dumps({**json.loads(seal(RELEASE).body), **bad}).encode()
    with pytest.raises(Invalid, match="malformed"):
        release_of(Envelope(payload=b64encode(payload).decode()))


def test_other_types_and_garbage_are_refused() -> None:
    with pytest.raises(Invalid, match="another type"):
        release_of(replace(seal(RELEASE), payloadType="text/plain"))
    with pytest.raises(Invalid, match="not base64"):
        release_of(Envelope(payload="%%%"))
    with pytest.raises(Invalid, match="longer"):
        parse_envelope(b" " * (65 << 10))
    many = seal(RELEASE)
    for number in range(17):
        many = many.signed_by(f"{number:064x}", b"s")
    with pytest.raises(Invalid, match="more than 16"):
        parse_envelope(envelope_bytes(many))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_invalid(data: bytes) -> None:
    try:
        envelope = parse_envelope(data)
        release_of(envelope)
    except Invalid:
        pass
