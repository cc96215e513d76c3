from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.policy.releases import Publishers
from edge_agent.sync.releases import ReleaseGate
from federation.contract.errors import Invalid
from federation.contract.manifest import Chunk, manifest_bytes, manifest_digest, pack_chunks
from federation.contract.release import Envelope, Release, envelope_bytes, seal
from federation.contract.types import FileEntry, Manifest
from federation.trust.signing import new_signing_key, public_key, sign_envelope

KEY, OTHER = new_signing_key(), new_signing_key()
MANIFEST = Manifest(
    model="m",
    files=(
        FileEntry(
            path="f",
            size=3,
            blake3="0" * 64,
            sha256="0" * 64,
            chunks=pack_chunks([Chunk(bytes(32), 3)]),
        ),
    ),
)
DIGEST = manifest_digest(MANIFEST)
RELEASE = Release(model="m", manifest=DIGEST, size=3, sequence=7, created=1)


def gate(folder: Path, *keys: str, publishers: Publishers | None = None) -> ReleaseGate:
    return ReleaseGate(
        folder,
        trusted=lambda: keys or (public_key(KEY),),
        publishers=publishers or Publishers(),
        utc=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )


async def check(
    at: ReleaseGate, envelope: Envelope, *, manifest: bytes = manifest_bytes(MANIFEST)
) -> Manifest:
    return await at.check("m", 1, DIGEST, manifest, envelope_bytes(envelope))


async def test_what_is_signed_and_whole_is_let_in(tmp_path: Path) -> None:
    assert await check(gate(tmp_path), sign_envelope(KEY, seal(RELEASE))) == MANIFEST


async def test_what_is_not_is_refused_and_counted(tmp_path: Path) -> None:
    at = gate(tmp_path)
    with pytest.raises(Invalid, match="no key"):
        await check(at, sign_envelope(OTHER, seal(RELEASE)))
    with pytest.raises(Invalid, match="has digest"):
        await check(at, sign_envelope(KEY, seal(RELEASE)), manifest=b"{}")
    with pytest.raises(Invalid, match="is of model"):
        other = replace(MANIFEST, model="n")
        await at.check("m", 1, manifest_digest(other), manifest_bytes(other), b"{}")
    assert at.refused == 3


async def test_floors_outlive_the_process(tmp_path: Path) -> None:
    await check(gate(tmp_path), sign_envelope(KEY, seal(replace(RELEASE, sequence=9, floor=8))))
    with pytest.raises(Invalid, match="withdrawn"):
        await check(gate(tmp_path), sign_envelope(KEY, seal(RELEASE)))
    key = public_key(OTHER)  # the federation has another key now: the old one's floors are void
    assert await check(gate(tmp_path, key), sign_envelope(OTHER, seal(RELEASE))) == MANIFEST


async def test_a_damaged_file_of_floors_is_told_and_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "release-floors.json").write_text("{")
    assert await check(gate(tmp_path), sign_envelope(KEY, seal(RELEASE))) == MANIFEST
    assert "floors begin anew" in caplog.text


async def test_a_demanded_publisher_must_have_signed(tmp_path: Path) -> None:
    at = gate(tmp_path, publishers=Publishers(keys=(("m", public_key(OTHER)),)))
    by_us = sign_envelope(KEY, seal(RELEASE))
    with pytest.raises(Invalid, match="publishers"):
        await check(at, by_us)
    assert await check(at, sign_envelope(OTHER, by_us)) == MANIFEST
