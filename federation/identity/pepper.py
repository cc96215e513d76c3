"""The pepper: the control plane's secret, with which the digests of all keys are made.

Input: a file in the state directory (mode 0600), made on the first start. Output: its text, which
is never shown. Without it, the digests that the store keeps prove nothing to who reads them.
"""

import re
import secrets
from pathlib import Path

from federation.contract.errors import Invalid
from federation.runtime.files import write_atomic

BYTES = 32


def load_or_create(path: Path) -> str:
    """Return the pepper in `path` (hex); makes one if there is no such file. Raises Invalid."""
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        text = secrets.token_hex(BYTES)
        write_atomic(path, f"{text}\n".encode(), mode=0o600)
        return text
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the pepper in {path}: {error}.") from None
    if not re.fullmatch(f"[0-9a-f]{{{2 * BYTES}}}", text):
        raise Invalid(
            f"{path} does not hold a pepper: {BYTES} bytes in hex.",
            hint="Restore it from a backup; with a new one, every key must be made anew.",
        )
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return text
