"""A process that commits changes with their entries until it is killed; tells each commit it has.

Input: a state directory. Output: on stdout the number of each entry, once its commit returned.
"""

import sys
from pathlib import Path

from federation.store.sqlite import SqliteStore
from tests.federation.store.audit_log import Writer


def main() -> None:
    """Write without end."""
    store = SqliteStore(Path(sys.argv[1]))
    store.load()
    writer = Writer(store)
    while True:
        for number in writer.commit(1 + writer.head.id % 3):
            sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
