"""Snapshots as files: the router's own copy on disk, and tables that people write.

Input and output: Snapshot values and files. Both files are the same document, JSON or (for people)
YAML; docs/router-table.md tells its keys.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec

from federation.contract.errors import Invalid
from federation.contract.strict_yaml import load_document
from federation.contract.types import Snapshot
from federation.runtime.files import write_atomic


def save(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, for nobody else to read: it holds the pepper of the keys' digests.

    After a crash the file holds the old one or the new one, whole.
    """
    write_atomic(path, b"".join(_lines(snapshot)), mode=0o600)


def _lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the document, member by member: to encode all of a large one at once would keep other
    threads waiting."""
    encode = msgspec.json.encode
    for number, field in enumerate(fields(Snapshot)):
        value = getattr(snapshot, field.name)
        yield b'%s"%s": ' % (b",\n" if number else b"{", field.name.encode())
        if isinstance(value, tuple):
            yield b"[\n"
            for place, member in enumerate(value):
                yield (b",\n" if place else b"") + encode(member)
            yield b"]"
        else:
            yield encode(value)
    yield b"}\n"


def load(path: Path) -> Snapshot | None:
    """Read what `save` wrote, perhaps by another release; None if there is no file.

    Raises Invalid if it cannot be understood.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"Cannot read the snapshot in {path}: {error}.") from None


def load_written(path: Path) -> Snapshot:
    """Read a table that a person wrote; raises Invalid with the line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"Cannot read {path}: {error}.") from None
    snapshot: Snapshot = load_document(text, source=str(path)).convert(Snapshot)
    return snapshot
