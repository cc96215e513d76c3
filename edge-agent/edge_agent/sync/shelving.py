"""The step that makes a package visible, and the documents that lie beside it.

Input: a staging folder whose every file and folder is durable. Output: the package under its name,
by one rename. A package without a valid manifest beside it is none.
"""

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from edge_agent.sync.layout import (
    CHECKED,
    MANIFEST,
    PACKAGES,
    RELEASE,
    STAGING,
    USED,
    Folder,
    Layout,
    PackageName,
)
from federation.contract.errors import Invalid
from federation.contract.manifest import MAX_MANIFEST_BYTES, parse_manifest
from federation.contract.release import MAX_ENVELOPE_BYTES
from federation.contract.types import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be put together; the documents are kept beside the package as they are."""

    name: PackageName
    manifest: Manifest
    manifest_bytes: bytes
    release_bytes: bytes = b""


def order_of(name: PackageName, manifest_bytes: bytes, release_bytes: bytes = b"") -> Order:
    """Return an order if the manifest is that of the package; raises Invalid."""
    if (found := blake3(manifest_bytes).hexdigest()) != name.digest:
        raise Invalid(f"the manifest of {name} has digest {found}, not {name.digest}.")
    manifest = parse_manifest(manifest_bytes)
    if manifest.model != name.model:
        raise Invalid(f"the manifest of {name} is of model {manifest.model!r}.")
    return Order(
        name=name, manifest=manifest, manifest_bytes=manifest_bytes, release_bytes=release_bytes
    )


def shelve(layout: Layout, order: Order) -> Path:
    """Publish a durable staging folder; return the package's folder. Raises OSError."""
    name = order.name.folder
    with (
        layout.make_model(PACKAGES, order.name.model) as home,
        layout.model(STAGING, order.name.model) as parent,
    ):
        # Whatever has the name is not valid, or there was nothing to fetch. It goes before the
        # documents come that would make it so.
        layout.discard(home, name)
        home.remove(name + USED)
        home.remove(name + CHECKED)
        home.write(name + MANIFEST, order.manifest_bytes)
        if order.release_bytes:
            home.write(name + RELEASE, order.release_bytes)
        else:
            home.remove(name + RELEASE)
        parent.rename(name, home, name)
        home.fsync()
        parent.fsync()
        return home.path / name


def unshelve(layout: Layout, home: Folder, name: str) -> None:
    """Remove a package, or what is left of one: the folder first. Raises OSError."""
    layout.discard(home, name)
    for kind in (MANIFEST, RELEASE, USED, CHECKED):
        home.remove(name + kind)
    home.fsync()


def read_order(home: Folder, model: str, folder: str) -> Order:
    """Return what the documents beside a package say; raises Invalid, OSError."""
    data = home.read(folder + MANIFEST, MAX_MANIFEST_BYTES)
    version, _, prefix = folder.partition("-")
    digest = blake3(data).hexdigest()
    if not digest.startswith(prefix):
        raise Invalid("its manifest is damaged.")
    release = b""
    if home.stat(folder + RELEASE):
        release = home.read(folder + RELEASE, MAX_ENVELOPE_BYTES)
    return order_of(PackageName(model, int(version), digest), data, release)
