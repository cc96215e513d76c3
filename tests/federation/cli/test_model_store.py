import json
from pathlib import Path

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


def test_a_whole_version_is_told(fed: Fed, plane: FakeControlPlane) -> None:
    told = fed("model", "verify", "filetype@2")
    assert (told.code, told.err) == (0, "")
    assert told.out == "model/filetype version 2 (digest dddddddddddd) is whole: 5 B were checked\n"
    assert plane.methods == ["POST /api/v1/models/filetype/versions/2/verify"]
    assert json.loads(fed("model", "verify", "filetype", "-o", "json").out)["damage"] == []


def test_damage_is_shown_and_ends_with_1(fed: Fed, plane: FakeControlPlane) -> None:
    plane.store.damage = [{"key": "packs/ab", "problem": "a byte flipped"}]
    told = fed("model", "verify", "filetype")
    assert told.code == 1
    assert "packs/ab" in told.out
    assert "a byte flipped" in told.out
    assert "Push the same content again" in told.err
    assert fed("model", "verify", "filetype", "-o", "json").code == 1


def test_garbage_is_collected(fed: Fed, plane: FakeControlPlane, tmp_path: Path) -> None:
    told = fed("model", "gc")
    assert told.code == 0
    assert told.out.startswith("1.0 kB of 2.0 kB were freed: 1 of 3 packs removed, 1 rewritten")
    dry = fed("model", "gc", "--dry-run", "--grace", "2h")
    assert "would be freed" in dry.out
    assert dry.out.endswith("(dry run)\n")
    assert plane.store.collected == [
        {"graceSeconds": 86_400},
        {"graceSeconds": 7200, "dryRun": "true"},
    ]
    assert json.loads(fed("model", "gc", "-o", "json").out)["packs"] == 3
