"""A pytest plugin: tells why a test that was run twice (`--reruns 1`) had failed at first.

Input: the reports of pytest-rerunfailures. Output: a section at the end with each first failure, so
that what passed at the second run only is counted in the closing line and can be looked into.
"""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the failures that a second run followed."""
    again = terminalreporter.getreports("rerun")
    if not again:
        return
    terminalreporter.section("failed at first, and run again")
    for report in again:
        terminalreporter.write_line(f"{report.nodeid} ({report.when})", bold=True)
        terminalreporter.write_line(report.longreprtext)
