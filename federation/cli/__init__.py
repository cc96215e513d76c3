"""`fed`, the command line of the federation; it speaks the operator HTTP API only.

Input: argv and the environment. Output: data on stdout, everything else on stderr, an exit code
(`federation.cli.exits`). This module stays light: nothing is imported before it is needed.
"""


def main() -> int:
    """Run `fed` with the process's arguments and return its exit code."""
    try:
        from federation.cli.root import start

        return start()
    except KeyboardInterrupt:
        return 130
