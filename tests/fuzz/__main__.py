"""`python -m tests.fuzz --seconds N [--target NAME] [--keep DIRECTORY]`: fuzz what strangers send.

Each target gets N seconds. Exit status 1 if anything was found; its input is printed: add it to
tests/fuzz/seeds.py with the fix. `--keep` remembers interesting inputs for the next run.
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz.runner import AVAILABLE, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz all targets, or one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=TARGETS, action="append", help="instead of all")
    parser.add_argument("--keep", type=Path, help="directory that remembers interesting inputs")
    wanted = parser.parse_args()
    if not AVAILABLE:
        print("atheris is not installed: it exists for Linux on x86-64", file=sys.stderr)
        return 2
    found = [
        story
        for name in wanted.target or TARGETS
        if (story := fuzz(TARGETS[name], wanted.seconds, learned=wanted.keep))
    ]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
