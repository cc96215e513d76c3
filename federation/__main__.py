"""`python -m federation` runs the control plane.

Input: the command line. Output: an exit code.
"""

import sys

from federation.app import main

if __name__ == "__main__":
    sys.exit(main())
