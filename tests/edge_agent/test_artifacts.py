"""Packages fetched from a real HTTP server, with every fault that a network and a disk can have."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from blake3 import blake3

from edge_agent.artifacts import Artifacts
from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.types import FileEntry, Manifest
from federation.relay.server import listen, make_runner
from federation.trust.credentials import Credentials
from tests.edge_agent.package_server import PackageServer
from tests.pki import credentials_for, issue_into

FILES = {"model.py": b"x = 1\n", "deep/er/weights.bin": bytes(range(256)) * 9000, "empty": b""}
WEIGHTS = blake3(FILES["deep/er/weights.bin"]).hexdigest()


@pytest.fixture
async def server() -> AsyncIterator[PackageServer]:
    server = PackageServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def artifacts(server: PackageServer, tmp_path: Path) -> AsyncIterator[Artifacts]:
    artifacts = Artifacts(tmp_path / "state", url=f"{server.url}/", credentials=server.agent)
    yield artifacts
    await artifacts.close()


def visible(tmp_path: Path) -> list[str]:
    packages = tmp_path / "state" / "packages"
    return sorted(p.relative_to(packages).as_posix() for p in packages.glob("*/*") if p.is_dir())


async def test_a_package_arrives_whole_and_stays(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 3, FILES)
    directory = await artifacts.stage("m", 3, digest)
    assert visible(tmp_path) == [f"m/3-{digest[:16]}"]
    for name, content in FILES.items():
        assert (directory / name).read_bytes() == content
    assert not list((tmp_path / "state" / "staging").glob("*/*"))
    await artifacts.verify("m", 3, digest)
    await server.stop()
    assert await artifacts.stage("m", 3, digest) == directory  # nothing is asked for again


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("500", Unavailable, "500"),
        ("redirect", Unavailable, "302"),
        ("flipped", Invalid, "do not match"),
        ("longer", Invalid, "longer than"),
        ("shorter", Invalid, "ended after"),
        ("truncated", Unavailable, "failed"),
    ],
)
async def test_a_fault_is_told_nothing_torn_is_visible_and_the_rest_is_kept(
    server: PackageServer,
    artifacts: Artifacts,
    tmp_path: Path,
    fault: str,
    error: type[FederationError],
    words: str,
) -> None:
    digest = server.add(tmp_path, "m", 1, {**FILES, "zz-last": b"z" * 1000})
    last = blake3(b"z" * 1000).hexdigest()
    server.faults[last] = fault
    with pytest.raises(error, match=words):
        await artifacts.stage("m", 1, digest)
    assert visible(tmp_path) == []
    await artifacts.stage("m", 1, digest)
    assert (server.asked[last], server.asked[WEIGHTS]) == (2, 1)
    await artifacts.verify("m", 1, digest)


@pytest.mark.parametrize("fault", ["500", "flipped", "shorter", "truncated"])
async def test_a_bad_manifest_is_refused(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path, fault: str
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    server.faults["manifest"] = fault
    with pytest.raises(FederationError):
        await artifacts.stage("m", 1, digest)
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "./x"])
async def test_a_path_outside_of_the_package_is_refused(
    server: PackageServer, artifacts: Artifacts, path: str
) -> None:
    data = b"evil"
    server.blobs[blake3(data).hexdigest()] = data
    entry = FileEntry(path=path, size=4, blake3=blake3(data).hexdigest(), sha256="0" * 64)
    digest = server.add_manifest(1, Manifest(model="m", files=(entry,)))
    with pytest.raises(Invalid, match="outside"):
        await artifacts.stage("m", 1, digest)


async def test_a_manifest_of_another_model_is_refused(
    server: PackageServer, artifacts: Artifacts
) -> None:
    digest = server.add_manifest(1, Manifest(model="other", files=()))
    server.manifests["m", 1] = server.manifests["other", 1]
    with pytest.raises(Invalid, match="of model 'other'"):
        await artifacts.stage("m", 1, digest)


@pytest.mark.parametrize(("model", "digest"), [("../m", "0" * 64), ("m", "../../../../etc/x")])
async def test_names_do_not_lead_out_of_the_folder(
    artifacts: Artifacts, model: str, digest: str
) -> None:
    with pytest.raises(Invalid):
        await artifacts.stage(model, 1, digest)


async def test_links_planted_in_the_staging_folder_are_not_followed(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    staging = tmp_path / "state" / "staging" / "m" / f"1-{digest[:16]}"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (staging / "files").mkdir(parents=True)
    (staging / "parts").mkdir()
    (staging / "files" / "deep").symlink_to(outside)
    (staging / "files" / "model.py").symlink_to(outside / "victim")
    (staging / "parts" / WEIGHTS).symlink_to(outside / "victim")
    directory = await artifacts.stage("m", 1, digest)
    await artifacts.verify("m", 1, digest)
    assert not (directory / "deep").is_symlink()
    assert sorted(p.name for p in outside.iterdir()) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


async def test_what_is_on_this_disk_is_not_fetched_again(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    first = server.add(tmp_path, "m", 1, {**FILES, "twin.py": FILES["model.py"]})
    second = server.add(tmp_path, "m", 2, {**FILES, "model.py": b"x = 2\n"})
    await artifacts.stage("m", 1, first)
    await artifacts.stage("m", 2, second)
    assert server.asked[WEIGHTS] == 1
    assert server.asked[blake3(FILES["model.py"]).hexdigest()] == 1
    assert artifacts.reused_bytes > len(FILES["deep/er/weights.bin"])
    await artifacts.verify("m", 2, second)


async def test_a_damaged_file_is_not_reused(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    first = server.add(tmp_path, "m", 1, FILES)
    directory = await artifacts.stage("m", 1, first)
    (directory / "deep/er/weights.bin").write_bytes(b"rot")
    second = server.add(tmp_path, "m", 2, {**FILES, "model.py": b"x = 2\n"})
    await artifacts.stage("m", 2, second)
    await artifacts.verify("m", 2, second)
    assert server.asked[WEIGHTS] == 2


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "link"])
async def test_verify_finds_damage_and_clears_the_way(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path, damage: str
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    directory = await artifacts.stage("m", 1, digest)
    match damage:
        case "changed":
            (directory / "model.py").write_bytes(b"x = 2\n")
        case "missing":
            (directory / "model.py").unlink()
        case "added":
            (directory / "extra.py").write_bytes(b"")
        case _:
            (directory / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid) as caught:
        await artifacts.verify("m", 1, digest)
    assert {"changed": "model.py", "missing": "missing", "added": "extra.py", "link": "link"}[
        damage
    ] in caught.value.message
    assert visible(tmp_path) == []
    await artifacts.stage("m", 1, digest)
    await artifacts.verify("m", 1, digest)


async def test_a_refusal_is_told_in_the_words_of_the_server(
    server: PackageServer, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    other = credentials_for(server.authority, PeerRole.CLUSTER, "other")
    strange = Artifacts(tmp_path, url=server.url, credentials=other)
    with pytest.raises(Unavailable, match=r"403 .*This is not for you\."):
        await strange.stage("m", 1, digest)
    await strange.close()


async def test_an_impostor_gets_no_request(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    cluster = credentials_for(server.authority, PeerRole.CLUSTER, "evil")
    runner = make_runner(web.Application())
    _, port = await listen(runner, "127.0.0.1:0", cluster.server_context())
    url = f"https://127.0.0.1:{port}"
    fooled = Artifacts(tmp_path, url=url, credentials=server.agent)
    with pytest.raises(Unavailable, match="certificate"):
        await fooled.stage("m", 1, digest)
    await fooled.close()
    await runner.cleanup()


async def test_downloads_go_on_over_a_rotation(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    await artifacts.stage("m", 1, server.add(tmp_path, "m", 1, FILES))
    issue_into(server.agent, server.authority, PeerId("fed.test", PeerRole.CLUSTER, "c"))
    await artifacts.stage("n", 1, server.add(tmp_path, "n", 1, FILES))


async def test_before_it_joined_nothing_is_asked(server: PackageServer, tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, url=server.url, credentials=Credentials(None))
    with pytest.raises(Unavailable, match="not joined"):
        await artifacts.stage("m", 1, "0" * 64)
    assert not server.asked


async def test_a_fetch_that_was_cut_off_leaves_nothing_torn(
    server: PackageServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    digest = server.add(tmp_path, "m", 1, FILES)
    server.faults[WEIGHTS] = "stalls"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await artifacts.stage("m", 1, digest)
    assert visible(tmp_path) == []
    await artifacts.stage("m", 1, digest)
    await artifacts.verify("m", 1, digest)


async def test_a_package_that_does_not_fit_is_not_begun(
    server: PackageServer, artifacts: Artifacts
) -> None:
    entry = FileEntry(path="huge", size=1 << 60, blake3="0" * 64, sha256="0" * 64)
    digest = server.add_manifest(1, Manifest(model="m", files=(entry,)))
    with pytest.raises(FederationError, match="MiB free; m needs"):
        await artifacts.stage("m", 1, digest)
    assert server.asked["0" * 64] == 0
