"""A pytest plugin: how the tests are spread over processes (`-n 2 --dist loadfile`).

Input: the tests of a run. Output: each file stays in one process, so that what it makes once is
made once. What starts whole federations, or Ray, stays in one process together, since it has ports
and memory of its own, and comes first, since it takes longest.
"""

from collections.abc import Generator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

WHOLE = "whole federations"
HEAVY = (  # folders, and files
    "tests/e2e/",
    "tests/contract/test_backend.py",
    "tests/contract/test_same_answers.py",
    "tests/edge_agent/backends/test_engine_queues.py",
    "tests/edge_agent/backends/test_ray_serve.py",
    "tests/edge_agent/serving/test_ray_app.py",
)


def group_of(node: str) -> str:
    """Return the group of a test: the tests of a group run in one process, one after another."""
    return WHOLE if node.startswith(HEAVY) else node.split("::", 1)[0]


class ByGroup(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Hands out groups of tests, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup:
    """Tell pytest-xdist who hands out the tests."""
    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Bring the heavy ones to the front, whatever their order is by chance."""
    yield
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: group_of(item.nodeid) != WHOLE)
