"""The pin of a root: all that a newcomer knows of a federation before it trusts anybody.

Input: certificates in PEM, as somebody yet unproven tells them. Output: pins, and the one root that
has the pin. Standard library only: `fed` uses it, too.
"""

import hashlib
import re
import ssl
from collections.abc import Iterable

from federation.contract.errors import Invalid

_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def check_pin(pin: str) -> str:
    """Return `pin` if it can be the pin of a root; raises Invalid."""
    if not _PIN.fullmatch(pin):
        raise Invalid(
            f"--ca-pin {pin[:80]!r} is no pin.",
            hint="It is 'sha256:' and 64 hexadecimal digits; `fed ca pin` prints it.",
        )
    return pin


def pin_of(pem: str) -> str:
    """Return `sha256:<hex>` of a certificate's DER; raises ValueError if it is none."""
    return _pin_of_der(ssl.PEM_cert_to_DER_cert(pem))


def pinned_root(texts: Iterable[str], pin: str) -> str:
    """Return the certificate (PEM) that has the pin, among all in `texts`; "" if none has.

    It is written anew from the bytes that were hashed: another reader of the original text could
    understand it in another way.
    """
    for pem in (each for text in texts for each in _PEM.findall(text)):
        try:
            der = ssl.PEM_cert_to_DER_cert(pem)
        except ValueError:
            continue
        if _pin_of_der(der) == pin:
            return ssl.DER_cert_to_PEM_cert(der)
    return ""


def _pin_of_der(der: bytes) -> str:
    return f"sha256:{hashlib.sha256(der).hexdigest()}"
