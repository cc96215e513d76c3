from federation.policy.events import Put
from federation.policy.records import RetiredModel
from federation.store.memory import MemoryStore


def test_what_was_loaded_does_not_change_with_the_store() -> None:
    store = MemoryStore()
    before = store.load()
    record = RetiredModel(name="m", last_version=1)
    store.commit([Put(kind="RetiredModel", name="m", record=record)], 1)
    assert before.records == {}
    assert repr(store) == "MemoryStore(1 records, revision=1)"
