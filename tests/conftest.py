"""Fixtures for all tests: a real Triton and a real Ray Serve, each started at its first use."""

pytest_plugins = (
    "tests.engines.triton",
    "tests.engines.ray",
    "tests.engines.packages",
    "tests.engines.loaded",
)
