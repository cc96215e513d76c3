"""`python -m edge_agent` runs an edge agent.

Input: the command line. Output: an exit code.
"""

import sys

from edge_agent.app import main

if __name__ == "__main__":
    sys.exit(main())
