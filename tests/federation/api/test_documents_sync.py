from typing import Any

import msgspec

from federation.api.documents import DOCUMENTS
from federation.api.documents_sync import Transfers
from federation.contract.resources import PrefetchSpec
from federation.policy import views
from federation.policy.sync.sync_view import sync_document, sync_rows
from tests.fakes.control_plane import Operator
from tests.federation.policy.world import World


def test_what_is_shown_has_the_shape_that_is_told() -> None:
    world = World()
    world.cluster("a")
    world.push("m", size=7)
    world.prefetch(PrefetchSpec(model="m", version=1))
    shown = views.document(world.state, "Prefetch", "p", world.now)
    read: Any = msgspec.convert(shown, DOCUMENTS["Prefetch"])
    assert (read.status.size, read.status.clusters[0].cluster) == (7, "a")
    assert msgspec.json.decode(msgspec.json.encode(read.status)) == shown["status"]
    rows = {"items": [sync_document(row) for row in sync_rows(world.state)]}
    transfers: Any = msgspec.convert(rows, Transfers)
    assert [row.total_bytes for row in transfers.items] == [7]
    assert msgspec.json.decode(msgspec.json.encode(transfers)) == rows


async def test_a_prefetch_lives_and_dies_over_the_api(api: Operator) -> None:
    await api.push("m")
    await api.register("a")
    spec = {"model": "m", "version": 1, "regions": ["eu-west"]}
    created = await api.put("Prefetch", "p", spec)
    assert created.status == 201
    (cannot,) = created.json["status"]["cannot"]
    assert (cannot["cluster"], cannot["reason"]) == ("a", "its agent has not joined yet")
    assert (await api.put("Prefetch", "p", spec)).status == 200
    for wrong, status in (
        ({"version": 2}, 404),
        ({"version": "champion"}, 400),
        ({"regions": ["nowhere"]}, 404),
        ({"replicas": 1}, 400),
    ):
        assert (await api.put("Prefetch", "q", spec | wrong)).status == status
    listed = await api.call("GET", "/api/v1/prefetches")
    assert [item["metadata"]["name"] for item in listed.json["items"]] == ["p"]
    assert (await api.call("DELETE", "/api/v1/models/m")).status == 409
    assert (await api.call("DELETE", "/api/v1/prefetches/p")).status == 200
    assert (await api.call("GET", "/api/v1/prefetches/p")).status == 404
