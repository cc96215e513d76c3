"""`python -m federation.bridge` is `fed-bridge`."""

import sys

from federation.bridge.app import main

sys.exit(main())
