"""Publishes two versions on the file system at ROOT and prints what the second one cost.

Run: python -m … ROOT, in a mount namespace of its own. The versions have one file of 16 MiB each,
which differ in one chunk.
"""

import os
import random
import sys
from pathlib import Path

from edge_agent.sync.shelf import Shelf
from tests.edge_agent.sync.packages import Package

SIZE = 1 << 20
_DATA = random.Random(1).randbytes(16 * SIZE)
OLD = Package({"weights": _DATA}, version=1, size=SIZE)
NEW = Package(
    {"weights": _DATA[: 5 * SIZE] + _DATA[:SIZE][::-1] + _DATA[6 * SIZE :]}, version=2, size=SIZE
)


def main(root: Path) -> None:
    """Print kilobytes that the second version took, and chunks that it fetched."""
    shelf = Shelf(root)
    OLD.fetch(shelf)
    os.sync()
    before = os.statvfs(root)
    NEW.fetch(shelf)
    os.sync()
    after = os.statvfs(root)
    for package in (OLD, NEW):
        shelf.verify(*package.key)
    print((before.f_bfree - after.f_bfree) * before.f_frsize >> 10, sum(NEW.asked.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
