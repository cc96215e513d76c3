from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.app import ControlPlane
from tests.fakes.control_plane import Operator, operator, running


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as running_plane:
        yield running_plane


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[Operator]:
    async with operator(plane) as client:
        yield client
