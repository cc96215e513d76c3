import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy.engine import Connection

from federation.contract.errors import Invalid
from federation.policy.events import Put
from federation.policy.records import RetiredModel
from federation.store import migrations, sqlite
from federation.store.sqlite import FILE, SqliteStore


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
