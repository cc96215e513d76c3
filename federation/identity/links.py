"""Links that anybody may follow for a while: signed by this control plane, for packs.

Input: a key in a file of the state directory (mode 0600), made on the first start; the id of a pack
and the moment when the link ends. Output: the query of a link, and the verdict on one (HMAC-SHA256,
compared in constant time). To end all links at once, delete the file and restart.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from federation.contract.errors import Invalid, PermissionDenied
from federation.runtime.files import write_atomic

KEY_FILE = "links.key"
_BYTES = 32
_MOMENT = re.compile(r"[0-9]{1,12}")
LINK_ENDED = "link-ended"  # what happens to every link; whoever held it asks for another
_AGAIN = "Ask for the locations of the version again."


class Links:
    """Makes and checks links. Moments are Unix seconds."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Links()"

    def query(self, pack: str, expires: int) -> str:
        """Return the query of a link to a pack that ends at `expires`."""
        return f"expires={expires}&signature={self._signature(pack, str(expires))}"

    def check(self, pack: str, expires: str, signature: str, now: float) -> None:
        """Raise PermissionDenied unless this is a link of ours that has not ended."""
        # The signature is compared first: who has none learns nothing about anything.
        if not hmac.compare_digest(self._signature(pack, expires).encode(), signature.encode()):
            raise PermissionDenied("this link is not valid.", hint=_AGAIN, reason="bad-link")
        if not _MOMENT.fullmatch(expires) or int(expires) <= now:
            raise PermissionDenied("this link has ended.", hint=_AGAIN, reason=LINK_ENDED)

    def _signature(self, pack: str, expires: str) -> str:
        return hmac.digest(self._key, f"pack\0{pack}\0{expires}".encode(), hashlib.sha256).hex()


def open_links(state_dir: Path) -> Links:
    """Read the key, or make one; raises Invalid."""
    path = state_dir / KEY_FILE
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        text = secrets.token_hex(_BYTES)
        write_atomic(path, f"{text}\n".encode(), mode=0o600)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the key of links in {path}: {error}.") from None
    if not re.fullmatch(f"[0-9a-f]{{{2 * _BYTES}}}", text):
        raise Invalid(
            f"{path} does not hold a key: {_BYTES} bytes in hex.",
            hint="Delete the file to have a new one made.",
        )
    return Links(bytes.fromhex(text))
