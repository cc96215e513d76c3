"""For all tests: a real Triton and a real Ray Serve, each started at its first use; and a watch
that no token is logged."""

pytest_plugins = (
    "tests.engines.triton",
    "tests.engines.ray",
    "tests.engines.packages",
    "tests.engines.loaded",
    "tests.secret_watch",
)
