"""For all tests: a real Triton and a real Ray Serve, each started at its first use; and watches
that no token is logged and that nothing is left open."""

import signal

from hypothesis import HealthCheck, settings

# A shell has what it starts in the background ignore Ctrl-C, with all that this starts in turn.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is a matter of the machine, and of what else it does.
settings.register_profile(
    "house",
    parent=settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")

pytest_plugins = (
    "tests.engines.triton",
    "tests.engines.ray",
    "tests.engines.packages",
    "tests.engines.loaded",
    "tests.secret_watch",
    "tests.left_open",
    "tests.second_run",
    "tests.spread",
)
