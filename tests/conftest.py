"""For all tests: a real Triton and a real Ray Serve, each started at its first use; and watches
that no token is logged and that nothing is left open."""

pytest_plugins = (
    "tests.engines.triton",
    "tests.engines.ray",
    "tests.engines.packages",
    "tests.engines.loaded",
    "tests.secret_watch",
    "tests.left_open",
)
