import json
import stat
from pathlib import Path

import msgspec
import pytest

from federation.contract.release import Envelope, release_of
from federation.trust.signing import check_public_key, signers
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_packages import make_package


@pytest.fixture
def package(tmp_path: Path) -> str:
    return str(make_package(tmp_path / "package"))


def test_push_tells_version_digest_size_and_what_was_new(fed: Fed, package: str) -> None:
    first = fed("model", "push", package)
    assert first.code == 0, first.err
    assert first.out.startswith("model/filetype version 1 (digest ")
    assert first.out.endswith(") created\n")
    assert first.err.startswith("4.2 kB in 3 files; 4.2 kB were new, sent as ")
    again = fed("model", "push", package)
    assert again.out == first.out.replace("created", "exists")
    assert again.err == "4.2 kB in 3 files; 0 B were new\n"
    shown = json.loads(fed("model", "push", package, "-o", "json").out)
    assert (shown["version"], shown["created"], shown["newChunks"]) == (1, False, 0)
    assert fed("model", "push", package, "-o", "name").out == "model/filetype\n"
    assert fed("model", "push", package, "--name", "other").out.startswith("model/other version 1")


def test_a_push_that_is_refused_tells_why(
    fed: Fed, plane: FakeControlPlane, package: str, tmp_path: Path
) -> None:
    plane.store.max_upload = 1
    refused = fed("model", "push", package)
    assert refused.code == 1
    assert "longer than the limit" in refused.err
    assert fed("model", "push", str(tmp_path / "absent")).code == 3


def test_a_dry_run_sends_nothing(fed: Fed, plane: FakeControlPlane, package: str) -> None:
    told = fed("model", "push", package, "--dry-run")
    assert told.code == 0
    assert "would send 4.2 kB of 4.2 kB in 3 chunks (dry run)" in told.out
    shown = json.loads(fed("model", "push", package, "--dry-run", "-o", "json").out)
    assert (shown["missingChunks"], shown["files"], shown["carriesCode"]) == (3, 3, False)
    assert plane.store.chunks == {}
    assert plane.store.pushed == []


def pushed_release(plane: FakeControlPlane) -> Envelope:
    return msgspec.convert(plane.store.pushed[-1]["release"], Envelope)


def test_a_release_is_signed_by_the_owners_key(
    fed: Fed, plane: FakeControlPlane, package: str, tmp_path: Path
) -> None:
    key = tmp_path / "owner.pem"
    public = fed("model", "keygen", str(key)).out.strip()
    assert check_public_key(public) == public
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    words = ("model", "push", package, "--sign-key", str(key), "--expires-in", "90d")
    assert fed(*words).code == 0
    envelope = pushed_release(plane)
    assert signers(envelope, [public]) == {public}
    release = release_of(envelope)
    assert (release.model, release.source) == ("filetype", Path(package).as_uri())
    assert release.expires - release.created == 90 * 86_400
    digest = plane.objects["models"]["filetype"]["status"]["versions"][0]["digest"]
    assert (release.manifest, release.floor) == (digest, 0)


def test_an_end_and_a_floor_need_no_key(fed: Fed, plane: FakeControlPlane, package: str) -> None:
    fed("model", "push", package, "--expires-in", "1h")
    first = pushed_release(plane)
    assert first.signatures == ()
    Path(package, "vocabulary", "labels.txt").write_text("new\n")
    assert fed("model", "push", package, "--floor", "1").code == 0
    assert release_of(pushed_release(plane)).floor == release_of(first).sequence
    assert fed("model", "push", package, "--floor", "9").code == 3


def test_a_key_is_never_overwritten_and_a_bad_one_is_told_at_once(
    fed: Fed, plane: FakeControlPlane, package: str, tmp_path: Path
) -> None:
    key = tmp_path / "owner.pem"
    key.write_text("no key")
    assert fed("model", "keygen", str(key)).code == 5
    assert key.read_text() == "no key"
    for path in (key, tmp_path / "absent"):
        refused = fed("model", "push", package, "--sign-key", str(path))
        assert refused.code == 1
    assert plane.requests == []
