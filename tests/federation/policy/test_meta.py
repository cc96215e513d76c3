from dataclasses import FrozenInstanceError

import pytest

from federation.policy.meta import Meta
from tests.federation.policy.world import START


def test_it_is_a_value() -> None:
    meta = Meta(name="x", generation=1, resource_version=7, created_at=START)
    assert meta == Meta(name="x", generation=1, resource_version=7, created_at=START)
    with pytest.raises(FrozenInstanceError):
        meta.generation = 2  # type: ignore[misc]  # that is what is tested
