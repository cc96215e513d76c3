"""The whole way of a version to the disk, against a control plane that may misbehave."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.sync.build import SyncSide
from federation.contract.errors import Exhausted, FederationError, Invalid, Unavailable
from federation.contract.release import Release, envelope_bytes, seal
from federation.contract.sync import SyncSpec, SyncWindow
from federation.contract.types import (
    AssignedVersion,
    Assignment,
    FileEntry,
    Manifest,
    Urgency,
)
from federation.trust.signing import new_signing_key, sign_envelope
from tests.edge_agent.agent_rig import until
from tests.edge_agent.package_server import PackageServer, sync_side

WEIGHTS = random.Random(5).randbytes(3 << 20)
FILES = {"model.py": b"# code", "deep/er/weights.bin": WEIGHTS, "empty": b""}


@pytest.fixture
async def server() -> AsyncIterator[PackageServer]:
    server = PackageServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def side(server: PackageServer, tmp_path: Path) -> AsyncIterator[SyncSide]:
    side = sync_side(server, tmp_path / "state")
    yield side
    await side.syncer.close()


def visible(tmp_path: Path) -> list[str]:
    packages = tmp_path / "state" / "packages"
    return sorted(p.relative_to(packages).as_posix() for p in packages.glob("*/*") if p.is_dir())


def assignment(*versions: tuple[int, str], prefetched: tuple[int, ...] = ()) -> Assignment:
    return Assignment(
        cluster="c",
        generation=1,
        versions=tuple(
            AssignedVersion(model="m", version=n, digest=d, stage_only=n in prefetched)
            for n, d in versions
        ),
    )


async def test_a_package_arrives_whole_and_stays(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 3, FILES)
    directory = await side.syncer.stage("m", 3, digest)
    assert visible(tmp_path) == [f"m/3-{digest[:16]}"]
    for name, content in FILES.items():
        assert (directory / name).read_bytes() == content
    await side.syncer.verify("m", 3, digest)
    progress = side.syncer.progress("m", 3)
    assert progress is not None
    assert progress.done_bytes == progress.total_bytes == progress.from_origin_bytes > len(WEIGHTS)
    await server.stop()
    assert await side.syncer.stage("m", 3, digest) == directory  # nothing is asked for again
    figures = side.syncer.figures()
    assert figures.moved_bytes["from-origin"] > len(WEIGHTS)
    assert (figures.running, figures.releases_refused) == (0, 0)


async def test_the_next_version_costs_what_changed(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    changed = WEIGHTS[:-1000] + bytes(1000)
    await side.syncer.stage("m", 1, server.add(tmp_path, "m", 1, FILES))
    digest = server.add(tmp_path, "m", 2, {**FILES, "deep/er/weights.bin": changed})
    await side.syncer.stage("m", 2, digest)
    progress = side.syncer.progress("m", 2)
    assert progress is not None
    assert progress.from_origin_bytes < progress.total_bytes - progress.reused_bytes + 1
    assert progress.reused_bytes > len(WEIGHTS) // 4


@pytest.mark.parametrize("fault", ["500", "redirect", "flipped", "longer", "shorter", "truncated"])
async def test_a_store_that_misbehaves_once_costs_a_second_try(
    server: PackageServer, side: SyncSide, tmp_path: Path, fault: str
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    server.faults["pack"] = fault
    try:
        await side.syncer.stage("m", 1, digest)
    except FederationError:
        assert visible(tmp_path) == []
        await side.syncer.stage("m", 1, digest)
    assert server.faults == {}
    await side.syncer.verify("m", 1, digest)


@pytest.mark.parametrize("document", ["manifest", "release"])
@pytest.mark.parametrize("fault", ["500", "flipped", "shorter", "truncated", "redirect"])
async def test_bad_documents_are_refused_before_anything_is_fetched(
    server: PackageServer, side: SyncSide, tmp_path: Path, document: str, fault: str
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    server.faults[document] = fault
    with pytest.raises(FederationError):
        await side.syncer.stage("m", 1, digest)
    assert server.asked["pack"] == 0
    assert visible(tmp_path) == []
    assert not (tmp_path / "state" / "staging").exists()


async def test_what_a_strange_key_signed_is_not_fetched(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    release = Release(model="m", manifest=digest, size=1, sequence=1, created=1)
    strange = sign_envelope(new_signing_key(), seal(release))
    server.releases["m", 1] = envelope_bytes(strange)
    with pytest.raises(Invalid, match="signed by no key"):
        await side.syncer.stage("m", 1, digest)
    assert server.asked["pack"] == 0
    assert side.syncer.figures().releases_refused == 1


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "./x"])
async def test_a_path_outside_of_the_package_is_refused(
    server: PackageServer, side: SyncSide, path: str
) -> None:
    entry = FileEntry(path=path, size=0, blake3="0" * 64, sha256="0" * 64)
    digest = server.add_manifest(1, Manifest(model="m", files=(entry,)))
    with pytest.raises(Invalid, match="outside"):
        await side.syncer.stage("m", 1, digest)


@pytest.mark.parametrize(("model", "digest"), [("../m", "0" * 64), ("m", "../../../../etc/x")])
async def test_names_do_not_lead_out_of_the_folder(side: SyncSide, model: str, digest: str) -> None:
    with pytest.raises(Invalid):
        await side.syncer.stage(model, 1, digest)


async def test_links_planted_in_the_staging_folder_are_not_followed(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    staging = tmp_path / "state" / "staging" / "m" / f"1-{digest[:16]}"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    staging.mkdir(parents=True)
    (staging / "deep").symlink_to(outside)
    (staging / "model.py").symlink_to(outside / "victim")
    directory = await side.syncer.stage("m", 1, digest)
    await side.syncer.verify("m", 1, digest)
    assert not (directory / "deep").is_symlink()
    assert sorted(p.name for p in outside.iterdir()) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


async def test_what_does_not_fit_is_not_begun_and_what_nobody_needs_goes(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    one = server.add(tmp_path, "m", 1, {"a": random.Random(1).randbytes(2 << 20)})
    two = server.add(tmp_path, "m", 2, {"a": random.Random(2).randbytes(2 << 20)})
    side.syncer.settings_changed(SyncSpec(disk_budget_gib=3 / 1024))
    side.syncer.assignment_changed(assignment((1, one)))
    await side.syncer.stage("m", 1, one)
    side.syncer.assignment_changed(assignment((1, one), (2, two), prefetched=(2,)))
    with pytest.raises(Exhausted, match=r"m@1 .assigned. must stay"):
        await side.syncer.stage("m", 2, two)
    assert server.asked["pack"] > 0
    assert visible(tmp_path) == [f"m/1-{one[:16]}"]
    side.syncer.assignment_changed(replace(assignment(), versions=()))
    await side.syncer.stage("m", 2, two)
    assert visible(tmp_path) == [f"m/2-{two[:16]}"]


async def test_a_closed_window_moves_nothing_and_says_so(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    now = side.throttle._clock.utc()
    hour = (now.hour + 2) % 24
    shut = SyncWindow(start=f"{hour:02}:00", end=f"{hour:02}:01")
    side.syncer.settings_changed(SyncSpec(windows=(shut,)))
    bringing = asyncio.create_task(side.syncer.stage("m", 1, digest))
    await until(
        lambda: (told := side.syncer.progress("m", 1)) is not None and "its window" in told.waiting
    )
    await asyncio.sleep(0.2)
    assert sum(server.asked.values()) == 0
    side.syncer.hasten("m", 1, Urgency.ROLLBACK)  # who waits already goes on when the window opens
    side.syncer.settings_changed(SyncSpec())
    async with asyncio.timeout(10):
        await bringing


async def test_settings_that_cannot_be_followed_change_nothing(
    side: SyncSide, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    side.syncer.settings_changed(SyncSpec(time_zone="Mars/Olympus"))
    assert "cannot be followed" in caplog.text
    kept = (tmp_path / "state" / "sync.json").read_text()
    assert "Mars" not in kept
    assert "UTC" in kept


async def test_after_a_crash_staging_that_nobody_wants_is_cleared_up(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    for name in (f"1-{digest[:16]}", "2-" + "b" * 16):
        (tmp_path / "state" / "staging" / "m" / name).mkdir(parents=True)
    side.syncer.assignment_changed(assignment((1, digest)))
    assert os.listdir(tmp_path / "state" / "staging" / "m") == [f"1-{digest[:16]}"]


async def test_without_an_identity_nothing_is_asked(tmp_path: Path) -> None:
    server = PackageServer()
    server.url = "https://127.0.0.1:1"
    side = sync_side(server, tmp_path / "state")
    with pytest.raises(Unavailable, match="failed"):
        await side.syncer.stage("m", 1, "0" * 64)
    await side.syncer.close()
    await server.stop()


async def test_an_order_that_was_cancelled_takes_nothing_from_the_next(
    server: PackageServer, side: SyncSide, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    server.faults["pack"] = "stalls"
    first = asyncio.create_task(side.syncer.stage("m", 1, digest))
    while not server.asked["pack"]:
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    second = asyncio.create_task(side.syncer.stage("m", 1, digest))
    await asyncio.wait({first}, timeout=10)
    assert first.cancelled()
    assert second.done() or side.syncer.figures().running == 1
    try:
        await second
    except FederationError:  # the first one still held the folder
        await side.syncer.stage("m", 1, digest)
    assert visible(tmp_path) == [f"m/1-{digest[:16]}"]
    assert side.syncer.figures().running == 0
