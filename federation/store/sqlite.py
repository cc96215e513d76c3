"""The store on disk: one SQLite file in the state directory.

Input: Put, Delete and AppendAudit commands. Output: the same records and the same log after any
crash. Write-ahead log with synchronous=FULL: a commit that returned survives the loss of power. A
lock file keeps a second control plane out of the directory. The schema is brought up to date when
the store is opened. The audit log is never loaded as a whole: it is read page by page.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    case,
    create_engine,
    event,
    func,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DatabaseError

from federation.contract.errors import Conflict, Invalid
from federation.policy.audit.records import HEAD_NAME, START, Head
from federation.policy.events import Delete, Put
from federation.store import migrations
from federation.store.base import (
    AuditLine,
    AuditQuery,
    Loaded,
    Write,
    audit_lines,
    by_kind,
    last_writes,
)
from federation.store.records import decode, encode

FILE = "federation.db"
LOCK_FILE = "control-plane.lock"
BUSY_MS = 5_000

_METADATA = MetaData()
RECORDS = Table(
    "records",
    _METADATA,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("json", LargeBinary, nullable=False),
)
COUNTERS = Table(
    "counters",
    _METADATA,
    Column("name", String, primary_key=True),
    Column("value", Integer, nullable=False),
)
AUDIT = Table(
    "audit",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("json", Text, nullable=False),
)
_READING = {"fed_reading": True}  # an execution option: this transaction writes nothing


class SqliteStore:
    """Keeps records in `<directory>/federation.db`; holds the directory's lock until closed.

    Raises Conflict if another process holds the lock, Invalid if a newer version wrote the file.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(directory)
        try:
            self._engine = _open(self._path)
        except BaseException:
            self._lock.close()
            raise

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r})"

    def load(self) -> Loaded:
        """Count a start and return everything; raises Invalid if a record cannot be read."""
        with self._engine.begin() as connection:
            counters = {row.name: row.value for row in connection.execute(COUNTERS.select())}
            starts = counters.get("starts", 0) + 1
            _set_counter(connection, "starts", starts)
            rows = connection.execute(RECORDS.select()).all()
        records = by_kind((row.kind, row.name, decode(row.kind, row.json)) for row in rows)
        return Loaded(records=records, revision=counters.get("revision", 0), starts=starts)

    def commit(self, batch: Sequence[Write], revision: int) -> None:
        """Apply all of the batch and remember the revision, in one transaction."""
        writes = last_writes(batch)
        puts = [
            {"kind": w.kind, "name": w.name, "revision": w.revision, "json": encode(w.record)}
            for w in writes.values()
            if isinstance(w, Put)
        ]
        deletes = [key for key, w in writes.items() if isinstance(w, Delete)]
        lines = [{"id": line.id, "json": line.json} for line in audit_lines(batch)]
        with self._engine.begin() as connection:
            if puts:
                new = insert(RECORDS)
                changed = {"revision": new.excluded.revision, "json": new.excluded.json}
                connection.execute(
                    new.on_conflict_do_update(index_elements=["kind", "name"], set_=changed), puts
                )
            for kind, name in deletes:
                connection.execute(
                    RECORDS.delete().where(RECORDS.c.kind == kind, RECORDS.c.name == name)
                )
            if lines:
                connection.execute(AUDIT.insert(), lines)
            _set_counter(connection, "revision", revision)

    def read_audit(self, query: AuditQuery) -> list[AuditLine]:
        """Return lines of the audit log, oldest first."""
        wanted = AUDIT.select().where(AUDIT.c.id > query.after)
        if query.actor:
            wanted = wanted.where(_member("actor") == query.actor)
        if query.kind:
            wanted = wanted.where(_member("kind") == query.kind)
        if query.since:
            wanted = wanted.where(_member("at") >= query.since)
        wanted = wanted.order_by(AUDIT.c.id).limit(query.limit)
        with self._engine.connect().execution_options(**_READING) as connection:
            rows = connection.execute(wanted).all()
        return [AuditLine(id=row.id, json=row.json) for row in rows]

    def audit_head(self) -> Head:
        """Return the head of the log as it was last committed."""
        wanted = RECORDS.select().where(RECORDS.c.kind == "AuditHead", RECORDS.c.name == HEAD_NAME)
        with self._engine.connect().execution_options(**_READING) as connection:
            row = connection.execute(wanted).first()
        head = decode("AuditHead", row.json) if row else START
        if not isinstance(head, Head):
            raise TypeError(head)
        return head

    def close(self) -> None:
        """Close the file and release the directory."""
        self._engine.dispose()
        self._lock.close()


def _member(key: str) -> ColumnElement[Any]:
    """What a line of the log says under `key`; NULL if somebody made it no JSON."""
    text = AUDIT.c.json
    return case((func.json_valid(text) == 1, func.json_extract(text, f"$.{key}")))


def _set_counter(connection: Connection, name: str, value: int) -> None:
    new = insert(COUNTERS).values(name=name, value=value)
    connection.execute(
        new.on_conflict_do_update(index_elements=["name"], set_={"value": new.excluded.value})
    )


def _lock(directory: Path) -> IO[str]:
    file = (directory / LOCK_FILE).open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise Conflict(
            f"another control plane (process {holder}) uses the state directory {directory}.",
            hint="Stop it first, or choose another --state-dir.",
            reason="state-dir-in-use",
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _open(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except CommandError as error:
        engine.dispose()
        raise Invalid(
            f"{path} was written by a newer version of the control plane ({error}).",
            hint="Start that version, or a newer one.",
        ) from None
    except DatabaseError as error:
        engine.dispose()
        raise Invalid(f"{path} cannot be used as the database: {error.orig}.") from None
    except BaseException:
        engine.dispose()
        raise
    return engine


def _configure(connection: Any, _record: object) -> None:
    # The driver would begin transactions before data changes only, not before schema changes: a
    # migration that is killed half-way must leave nothing behind. So we begin them ourselves.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # One that reads must not wait for the writer, nor keep it waiting.
    reading = connection.get_execution_options().get("fed_reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    config = Config()
    folder = str(Path(migrations.__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
