from typing import Any

import msgspec

from federation.api.documents import DOCUMENTS
from federation.api.documents_capacity import Devices, Pools
from federation.policy import views
from federation.policy.capacity_view import device_rows, pool_rows
from tests.federation.policy.test_capacity_view import world


def test_what_is_shown_has_the_shape_that_is_told() -> None:
    seen = world()
    shown = views.document(seen.state, "Cluster", "c", seen.now)
    read: Any = msgspec.convert(shown, DOCUMENTS["Cluster"])
    assert read.status.capacity.units.allocatable == 1
    told = msgspec.json.decode(msgspec.json.encode(read.status.capacity))
    assert told == shown["status"]["capacity"]
    for shape, rows in ((Devices, device_rows), (Pools, pool_rows)):
        items = {"items": list(rows(seen.state))}
        listed: Any = msgspec.convert(items, shape)
        assert msgspec.json.decode(msgspec.json.encode(listed)) == items
