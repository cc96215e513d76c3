"""Where a control plane can be, and what a pin looks like."""

import ssl

import pytest

from federation.contract.errors import Invalid
from federation.trust.calls import Contact, check_url, demanding, trusting_nobody

PIN = "sha256:" + "a" * 64


def test_https_is_demanded() -> None:
    assert check_url("https://plane:7480") == "https://plane:7480"
    for url in ("http://plane:7480", "plane:7480", "https://", "https://me:secret@plane"):
        with pytest.raises(Invalid, match="--control-plane-url"):
            check_url(url)
        with pytest.raises(Invalid):
            Contact(url=url)


def test_a_contact_has_a_sound_pin() -> None:
    with pytest.raises(Invalid, match="--ca-pin"):
        Contact(url="https://plane", pin="sha256:a")


def test_only_first_contact_trusts_nobody_and_all_speak_tls_1_3() -> None:
    first = trusting_nobody()
    assert (first.verify_mode, first.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(ssl.SSLError):
        demanding("no certificate")
    assert first.minimum_version is ssl.TLSVersion.TLSv1_3
