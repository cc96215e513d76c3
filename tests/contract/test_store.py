"""One suite for every Store: what the control loop relies on."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.contract.errors import Conflict
from federation.contract.resources import DeploymentSpec
from federation.policy.audit.events import AppendAudit
from federation.policy.audit.records import HEAD_NAME, START, Head
from federation.policy.events import Delete, Put
from federation.policy.records import PERSISTENT, Receipt, RetiredModel
from federation.store.base import AuditQuery, Store
from federation.store.memory import MemoryStore
from federation.store.sqlite import SqliteStore
from tests.federation.policy.world import World
from tests.federation.store.audit_log import Writer, ids, verdict

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
    batch = [c for c in world.commands if isinstance(c, Put | Delete | AppendAudit)]
    store.commit(batch, world.state.revision)
    loaded = reopen().load()
    assert loaded.revision == world.state.revision
    tables = {kind: world.state.table(kind) for kind in PERSISTENT}
    assert loaded.records == {kind: table for kind, table in tables.items() if table}
    assert set(loaded.records) >= {"Cluster", "Model", "Deployment", "Event", "AuditHead"}
    head = loaded.records["AuditHead"][HEAD_NAME]
    assert reopen().audit_head() == head == verdict(reopen())


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


# ------------------------------------------------------------ the audit log


def test_a_new_log_is_empty(reopen: Reopen) -> None:
    assert reopen().audit_head() == START
    assert reopen().read_audit(AuditQuery()) == []


def test_entries_are_committed_with_the_change_that_they_tell_of(reopen: Reopen) -> None:
    store = reopen()
    writer = Writer(store)
    unfit = Put(kind="RetiredModel", name="c", record=object())
    before = writer.head
    with pytest.raises(TypeError):
        store.commit([*writer.batch(2), unfit], 1)
    assert (store.audit_head(), ids(store)) == (START, [])
    writer.head = before
    writer.commit(2)
    assert ids(reopen()) == [1, 2]
    assert set(reopen().load().records["RetiredModel"]) == {"m1", "m2"}


def test_a_log_goes_on_where_it_ended(reopen: Reopen) -> None:
    for _ in range(3):
        Writer(reopen()).commit(2)
    assert ids(reopen()) == [1, 2, 3, 4, 5, 6]
    assert verdict(reopen()) == reopen().audit_head()


def test_an_entry_is_never_replaced(reopen: Reopen) -> None:
    writer = Writer(reopen())
    writer.commit(2)
    writer.head = START
    with pytest.raises(Exception, match=r"never replaced|UNIQUE"):
        writer.commit(1, actor="user/eve")
    assert '"user/eve"' not in "".join(line.json for line in reopen().read_audit(AuditQuery()))
    assert verdict(reopen()) == reopen().audit_head()


def test_the_log_is_not_loaded_with_the_records(reopen: Reopen) -> None:
    Writer(reopen()).commit(50)
    loaded = reopen().load()
    assert set(loaded.records) == {"RetiredModel", "AuditHead"}
    assert len(loaded.records["AuditHead"]) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (AuditQuery(), [1, 2, 3, 4, 5]),
        (AuditQuery(after=2, limit=2), [3, 4]),
        (AuditQuery(after=9), []),
        (AuditQuery(actor="user/eve"), [3, 5]),
        (AuditQuery(actor="user/eve", after=3), [5]),
        (AuditQuery(kind="Key"), [4, 5]),
        (AuditQuery(kind="Key", actor="user/eve"), [5]),
        (AuditQuery(kind="key"), []),
        (AuditQuery(since="2004-01-01T00:00:00.000000Z"), [4, 5]),
        (AuditQuery(since="2004-01-01T00:00:00.000001Z", limit=1), [5]),
        (AuditQuery(actor="' OR 1=1 --"), []),
    ],
)
def test_a_page_holds_what_was_asked_for(
    reopen: Reopen, query: AuditQuery, found: list[int]
) -> None:
    writer = Writer(reopen())
    writer.commit(2)
    writer.commit(actor="user/eve")
    writer.commit(kind="Key")
    writer.commit(actor="user/eve", kind="Key")
    assert ids(reopen(), query) == found


def test_the_log_may_be_read_by_other_threads_while_it_grows(reopen: Reopen) -> None:
    writer, store = Writer(reopen()), reopen()
    writer.store = store
    done = threading.Event()

    def read() -> list[bool]:
        seen = []
        while not done.is_set():
            head, found = store.audit_head(), verdict(store)
            seen.append(isinstance(found, Head) and found.id >= head.id)
        return seen

    with ThreadPoolExecutor(2) as readers:
        reading = [readers.submit(read) for _ in range(2)]
        for _ in range(60):
            writer.commit()
        done.set()
        assert all(all(each.result()) for each in reading)


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
