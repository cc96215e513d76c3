"""A process that fetches one package, to be killed. Run: python -m … ROOT LOG SCENARIO

It writes the number of each chunk to LOG before it puts it.
"""

import os
import random
import sys
from pathlib import Path

from edge_agent.sync.shelf import Shelf
from federation.contract.errors import FederationError
from tests.edge_agent.sync.packages import CHUNK, Package, needed

_R = random.Random(5)
_BIG = _R.randbytes(5 * CHUNK + 123)
_OTHER = _R.randbytes(2 * CHUNK)
OLD = Package(
    {"a/model.bin": _BIG, "b.txt": b"old", "same.bin": _OTHER, "__init__.py": b""}, version=1
)
NEW = Package(
    {
        "a/model.bin": _BIG[: 3 * CHUNK] + _R.randbytes(CHUNK) + _BIG[4 * CHUNK :],
        "a/b/deep.bin": _BIG[CHUNK : 2 * CHUNK] + b"!",
        "b.txt": b"new",
        "__init__.py": b"",
        "moved.bin": _OTHER,
    },
    version=2,
)
STREAMS = {"fresh": 1, "streams": 4, "upgrade": 1}  # scenario -> threads that put


def prepare(root: Path, scenario: str) -> None:
    """Put on the disk what the scenario starts from."""
    if scenario == "upgrade":
        OLD.fetch(Shelf(root))


def fetch(root: Path, scenario: str, log: int) -> None:
    """Bring the new version, as an agent that was just started."""
    shelf = Shelf(root)
    shelf.sweep({OLD.key, NEW.key})
    if shelf.find(*NEW.key):
        return
    staging = NEW.open(shelf, b"release")
    staging.resume()
    if scenario == "upgrade":
        shelf.make_room(staging, {OLD.key: "assigned"})
    staging.reuse()
    staging_put = staging.put

    def put(number: int, data: bytes) -> None:
        os.write(log, b"%d\n" % number)
        staging_put(number, data)

    staging.put = put  # type: ignore[method-assign,assignment]
    NEW.feed(staging, needed(staging), threads=STREAMS[scenario])
    staging.publish()
    staging.close()


def main() -> int:
    """Fetch; an error is told by its reason, and exit status 3."""
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fetch(Path(sys.argv[1]), sys.argv[3], log)
    except FederationError as error:
        print(error.reason, error.sentence())
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
