"""One suite for every Store: what the control loop relies on."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.contract.errors import Conflict
from federation.contract.resources import DeploymentSpec
from federation.policy.events import Delete, Put
from federation.policy.records import PERSISTENT, Receipt, RetiredModel
from federation.store.base import Store
from federation.store.memory import MemoryStore
from federation.store.sqlite import SqliteStore
from tests.federation.policy.world import World

Reopen = Callable[[], Store]


def retired(name: str, last_version: int = 1) -> Put:
    record = RetiredModel(name=name, last_version=last_version)
    return Put(kind="RetiredModel", name=name, record=record)


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Open the store; again and again, it is the same one."""
    opened: list[Store] = []
    memory = MemoryStore()

    def open_again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(memory if request.param == "memory" else SqliteStore(tmp_path))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


def test_a_new_store_is_empty(reopen: Reopen) -> None:
    loaded = reopen().load()
    assert (loaded.records, loaded.revision, loaded.starts) == ({}, 0, 1)


def test_starts_are_counted(reopen: Reopen) -> None:
    assert [reopen().load().starts for _ in range(3)] == [1, 2, 3]


def test_records_of_every_kind_come_back_equal(reopen: Reopen) -> None:
    world = World()
    world.cluster("c", gpus=2)
    world.push("m")
    world.push("m", "2")
    world.deploy(DeploymentSpec(model="m", version="1", cluster_labels={}))
    world.serve("c")
    world.push("gone")
    world.remove("Model", "gone")
    receipt = Receipt(
        key="k", fingerprint="f", object_kind="Model", object_name="m", at=datetime.now(UTC)
    )
    world.commands.append(Put(kind="Receipt", name="k", record=receipt))
    world.state.receipts["k"] = receipt
    store = reopen()
    store.load()
    batch = [c for c in world.commands if isinstance(c, Put | Delete)]
    store.commit(batch, world.state.revision)
    loaded = reopen().load()
    assert loaded.revision == world.state.revision
    assert loaded.records == {kind: world.state.table(kind) for kind in PERSISTENT}


def test_the_last_write_of_a_batch_wins(reopen: Reopen) -> None:
    store = reopen()
    store.load()
    gone, back = Delete(kind="RetiredModel", name="a"), Delete(kind="RetiredModel", name="b")
    store.commit([retired("a"), gone, retired("b", 1), back, retired("b", 2)], 5)
    store.commit([Delete(kind="RetiredModel", name="never there")], 6)
    loaded = reopen().load()
    assert loaded.records == {"RetiredModel": {"b": RetiredModel(name="b", last_version=2)}}
    assert loaded.revision == 6


def test_a_batch_is_all_or_nothing(reopen: Reopen) -> None:
    store = reopen()
    store.load()
    store.commit([retired("a")], 1)
    unfit = Put(kind="RetiredModel", name="c", record=object())
    with pytest.raises(TypeError):
        store.commit([retired("b"), Delete(kind="RetiredModel", name="a"), unfit], 2)
    loaded = reopen().load()
    assert set(loaded.records["RetiredModel"]) == {"a"}
    assert loaded.revision == 1


def test_a_commit_replaces_and_the_newest_is_loaded(reopen: Reopen) -> None:
    store = reopen()
    store.load()
    put = retired("a")
    store.commit([put], 1)
    store.commit([replace(put, record=RetiredModel(name="a", last_version=9))], 2)
    assert reopen().load().records["RetiredModel"]["a"] == RetiredModel(name="a", last_version=9)


def test_a_second_process_is_refused_in_a_sentence(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    try:
        code = (
            "import sys; from pathlib import Path\n"
            "from federation.contract.errors import Conflict\n"
            "from federation.store.sqlite import SqliteStore\n"
            "try: SqliteStore(Path(sys.argv[1]))\n"
            "except Conflict as error: print(error.sentence())\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    finally:
        store.close()
    assert "another control plane (process " in told
    assert "choose another --state-dir" in told
    SqliteStore(tmp_path).close()


def test_two_stores_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    with pytest.raises(Conflict) as refusal:
        SqliteStore(tmp_path)
    assert refusal.value.reason == "state-dir-in-use"
    store.close()
