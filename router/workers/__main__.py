"""`python -m router.workers FD [FD]` runs one worker of a router; only its keeper starts it."""

import sys

from router.workers.worker import main

if __name__ == "__main__":
    main(sys.argv[1:])
