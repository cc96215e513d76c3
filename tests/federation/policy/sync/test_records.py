from federation.contract.resources import PrefetchSpec
from federation.policy.records import PERSISTENT
from federation.policy.sync.records import PrefetchRecord
from federation.store.records import decode, encode
from tests.federation.policy.world import World


def test_it_is_kept_by_the_store() -> None:
    world = World()
    world.push("m")
    world.region("eu")
    world.prefetch(PrefetchSpec(model="m", version=1, regions=("eu",), cluster_labels={"a": "b"}))
    record = world.state.prefetches["p"]
    assert PERSISTENT["Prefetch"] is PrefetchRecord
    assert decode("Prefetch", encode(record)) == record
