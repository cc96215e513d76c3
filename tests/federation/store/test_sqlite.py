import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy.engine import Connection

from federation.contract.errors import Invalid
from federation.policy.audit.chain import Broken
from federation.policy.audit.records import Head
from federation.policy.events import Put
from federation.policy.records import ModelRecord, RetiredModel
from federation.store import migrations, sqlite
from federation.store.base import AuditQuery
from federation.store.sqlite import FILE, SqliteStore
from tests.federation.store.audit_log import Writer, verdict


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def names(path: Path) -> set[str]:
    """The tables that another process sees."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}


def records(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def test_a_commit_is_on_disk_when_it_returns(store: SqliteStore, tmp_path: Path) -> None:
    store.load()
    put = Put(kind="RetiredModel", name="m", record=RetiredModel(name="m", last_version=1))
    store.commit([put], 1)
    assert records(tmp_path / FILE) == 1


def test_a_commit_is_durable_and_not_only_fast(store: SqliteStore) -> None:
    with store._engine.begin() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5_000}


def test_an_unfinished_commit_is_not_visible(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.load()
    seen_by_others: list[int] = []

    def stop(*_: object) -> None:
        seen_by_others.append(records(tmp_path / FILE))
        raise OSError("disk full")

    monkeypatch.setattr(sqlite, "_set_counter", stop)
    put = Put(kind="RetiredModel", name="m", record=RetiredModel(name="m", last_version=1))
    with pytest.raises(OSError, match="disk full"):
        store.commit([put], 1)
    assert seen_by_others == [0]
    assert records(tmp_path / FILE) == 0


def test_the_schema_of_the_code_is_the_schema_of_the_migrations(store: SqliteStore) -> None:
    with store._engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["metadata"] = sqlite._METADATA
        alembic.command.check(config)


def test_a_migration_that_dies_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sqlite._migrate

    def die(connection: Connection) -> None:
        real(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlite, "_migrate", die)
    with pytest.raises(KeyboardInterrupt):
        SqliteStore(tmp_path)
    assert names(tmp_path / FILE) == set()
    monkeypatch.setattr(sqlite, "_migrate", real)
    store = SqliteStore(tmp_path)
    assert store.load().starts == 1
    store.close()


def test_a_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(Invalid, match="written by a newer version"):
        SqliteStore(tmp_path)
    assert "records" in names(tmp_path / FILE)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to look at" * 40)
    with pytest.raises(Invalid, match="cannot be used as the database: file is not a database"):
        SqliteStore(tmp_path)
    (tmp_path / FILE).unlink()
    SqliteStore(tmp_path).close()


def test_a_directory_with_any_name_will_do(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "50% ü ?#")
    assert store.load().starts == 1
    store.close()
    assert (tmp_path / "50% ü ?#" / FILE).exists()


# ------------------------------------------------------------ the audit log


def test_a_database_of_the_first_version_gets_an_empty_log(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.executescript("DROP TABLE audit; UPDATE alembic_version SET version_num='0001'")
    store = SqliteStore(tmp_path)
    assert list(Writer(store).commit()) == [1]
    store.close()


def test_model_versions_of_the_second_version_keep_numbers_digests_and_sizes(
    tmp_path: Path,
) -> None:
    SqliteStore(tmp_path).close()
    files = [{"path": p, "size": n, "blake3": "b", "sha256": "s"} for p, n in (("x", 3), ("y", 4))]
    version = {
        "version": 2,
        "digest": "d",
        "manifest": {"model": "m", "files": files},
        "package": {"name": "m", "runtime": "onnx"},
        "source": "test",
        "created_at": "2026-01-01T00:00:00Z",
        "created_by": "user/ada",
    }
    meta = {
        "name": "m",
        "generation": 1,
        "resource_version": 1,
        "created_at": version["created_at"],
    }
    model = {"meta": meta, "spec": {}, "versions": [version]}
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num='0002'")
        row = ("Model", "m", 1, json.dumps(model).encode())
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?)", row)
        connection.commit()
    store = SqliteStore(tmp_path)
    record = store.load().records["Model"]["m"]
    store.close()
    assert isinstance(record, ModelRecord)
    (kept,) = record.versions
    assert (kept.version, kept.digest, kept.size, kept.files) == (2, "d", 7, 2)
    assert kept.package.name == "m"


@pytest.mark.parametrize("sql", ["UPDATE audit SET json = ''", "DELETE FROM audit WHERE id = 2"])
def test_the_table_refuses_to_be_changed(store: SqliteStore, tmp_path: Path, sql: str) -> None:
    Writer(store).commit(3)
    with (
        closing(sqlite3.connect(tmp_path / FILE)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="only appended to"),
    ):
        connection.execute(sql)


def tamper(folder: Path, sql: str) -> None:
    """Do what somebody can do who may write the file."""
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.executescript(
            f"DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; {sql}"
        )


@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("UPDATE audit SET json = replace(json, 'user/ada', 'user/eve') WHERE id = 9", 9),
        ("UPDATE audit SET json = 'no JSON at all' WHERE id = 9", 9),
        ("DELETE FROM audit WHERE id = 9", 9),
        ("DELETE FROM audit WHERE id < 9", 1),
        ("UPDATE audit SET id = 90 WHERE id = 9", 9),
        (
            "UPDATE audit SET id = -1 WHERE id = 9; UPDATE audit SET id = 9 WHERE id = 10; "
            "UPDATE audit SET id = 10 WHERE id = -1",
            9,
        ),
        ("INSERT INTO audit SELECT 21, json FROM audit WHERE id = 20", 21),
    ],
)
def test_whatever_was_changed_in_the_file_is_found(
    store: SqliteStore, tmp_path: Path, sql: str, broken: int
) -> None:
    Writer(store).commit(20)
    tamper(tmp_path, sql)
    found = verdict(store)
    assert isinstance(found, Broken)
    assert found.id == broken


def test_a_log_that_was_cut_at_its_end_is_shorter_than_its_head(
    store: SqliteStore, tmp_path: Path
) -> None:
    Writer(store).commit(20)
    tamper(tmp_path, "DELETE FROM audit WHERE id > 15")
    found = verdict(store)
    assert isinstance(found, Head)
    assert (found.id, store.audit_head().id) == (15, 20)
    Writer(store).commit(2)  # what is written afterwards does not heal it
    assert verdict(store) == Broken(id=16, why="it is missing: after number 15 comes number 21")


def test_an_unreadable_line_does_not_hide_others_from_a_question(
    store: SqliteStore, tmp_path: Path
) -> None:
    Writer(store).commit(3)
    tamper(tmp_path, "UPDATE audit SET json = '{' WHERE id = 2")
    query = AuditQuery(actor="user/ada", kind="Model", since="2000")
    assert [line.id for line in store.read_audit(query)] == [1, 3]


def test_a_reader_neither_waits_for_the_writer_nor_stops_it(
    store: SqliteStore, tmp_path: Path
) -> None:
    writer = Writer(store)
    writer.commit(3)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.audit_head().id == 3
        assert len(store.read_audit(AuditQuery())) == 3
        other.execute("ROLLBACK")
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM audit").fetchone()
        writer.commit()


def test_kill_9_in_the_midst_of_writes_leaves_all_that_was_acknowledged(tmp_path: Path) -> None:
    """The chain is whole, each entry has its change, and nothing acknowledged is missing."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice, acknowledged = random.Random(seed), 0
    command = [sys.executable, "-m", "tests.federation.store.audit_writer", str(tmp_path)]
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(dice.randint(1, 150)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            for told in process.stdout:
                acknowledged = int(told) if told.endswith("\n") else acknowledged
        store = SqliteStore(tmp_path)
        try:
            head = verdict(store)
            assert head == store.audit_head()
            assert isinstance(head, Head)
            assert head.id >= acknowledged
            changes = store.load().records["RetiredModel"]
        finally:
            store.close()
        assert set(changes) == {f"m{number}" for number in range(1, head.id + 1)}
