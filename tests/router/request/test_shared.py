from dataclasses import FrozenInstanceError

import pytest

from tests.router.grpc.world import world


async def test_what_is_shared_stays_the_same() -> None:
    async with world("eu-1") as w:
        assert w.service.shared.quotas is w.quotas
        assert w.service.shared.admission is w.admission
        with pytest.raises(FrozenInstanceError):
            w.service.shared.limits = None  # type: ignore[misc, assignment]
