from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.trust.pins import check_pin, pin_of, pinned_root
from tests.pki import make_authority

_PIN = "sha256:" + "a" * 64


def test_a_pin_is_a_digest() -> None:
    assert check_pin(_PIN) == _PIN


_NO_PINS = ["", "sha256:", "sha256:xyz", "a" * 64, "0" * 64, "md5:" + "0" * 64, _PIN + "a"]


@pytest.mark.parametrize("pin", [*_NO_PINS, "md5:" + "a" * 32, "sha256:" + "A" * 64])
def test_what_is_no_pin_is_refused(pin: str) -> None:
    with pytest.raises(Invalid, match=r"--ca-pin .* is no pin"):
        check_pin(pin)


def test_the_root_with_the_pin_is_found_among_others_and_written_anew(tmp_path: Path) -> None:
    (one,) = make_authority(tmp_path / "a").roots.values()
    (two,) = make_authority(tmp_path / "b").roots.values()
    assert pin_of(two.pem) == two.pin
    broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"
    assert pinned_root([broken, f"junk\n{one.pem}{two.pem}junk"], two.pin) == two.pem
    odd = two.pem.replace("\n-----END", "\n!!\n-----END")  # a lenient reader's certificate
    assert pinned_root([odd], two.pin) == two.pem
    assert pinned_root([one.pem, "", broken], two.pin) == ""
    with pytest.raises(ValueError, match="PEM"):
        pin_of("nonsense")
