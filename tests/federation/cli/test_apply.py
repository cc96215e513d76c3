from pathlib import Path

import pytest
import yaml

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

FLEET = """\
apiVersion: federation/v1
kind: Deployment
metadata: {name: filetype}
spec: {model: filetype, regions: [eu-west]}
---
apiVersion: federation/v1
kind: Region
metadata: {name: eu-west}
spec: {location: {latitude: 53.3, longitude: -6.3}}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_apply_creates_then_changes_nothing(fed: Fed, plane: FakeControlPlane, fleet: Path) -> None:
    first = fed("apply", "-f", str(fleet))
    assert first.out == "region/eu-west created\ndeployment/filetype created\n"
    writes = sum(method.startswith("PUT") for method in plane.methods)
    second = fed("apply", "-f", str(fleet))
    assert second.out == "region/eu-west unchanged\ndeployment/filetype unchanged\n"
    assert sum(method.startswith("PUT") for method in plane.methods) == writes == 2


def test_apply_changes_what_differs(fed: Fed, plane: FakeControlPlane, fleet: Path) -> None:
    fed("apply", "-f", str(fleet))
    changed = fed("apply", "-f", "-", stdin=FLEET.replace("[eu-west]", "[eu-west, us-east]"))
    assert changed.out == "region/eu-west unchanged\ndeployment/filetype configured\n"
    assert plane.objects["deployments"]["filetype"]["spec"]["regions"] == ["eu-west", "us-east"]


def test_what_get_prints_can_be_applied(fed: Fed, fleet: Path) -> None:
    fed("apply", "-f", str(fleet))
    printed = fed("get", "region", "eu-west", "-o", "yaml").out
    assert fed("apply", "-f", "-", stdin=printed).out == "region/eu-west unchanged\n"


def test_a_stale_resource_version_ends_with_5(
    fed: Fed, plane: FakeControlPlane, fleet: Path
) -> None:
    fed("apply", "-f", str(fleet))
    printed = fed("get", "region", "eu-west", "-o", "yaml").out
    plane.put("regions", "eu-west", {"location": {"latitude": 1.0, "longitude": 1.0}})
    refused = fed("apply", "-f", "-", stdin=printed)
    assert refused.code == 5
    assert "changed since it was read" in refused.err


def test_nothing_is_sent_when_any_document_is_wrong(
    fed: Fed, plane: FakeControlPlane, fleet: Path
) -> None:
    refused = fed("apply", "-f", str(fleet), "-f", "-", stdin=FLEET.replace("model:", "modle:"))
    assert refused.code == 1
    assert "stdin line 4: unknown key 'modle'. Did you mean 'model'?" in refused.err
    assert plane.requests == []
    twice = fed("apply", "-f", str(fleet), "-f", str(fleet))
    assert "is there twice" in twice.err
    assert plane.requests == []


def test_a_cluster_that_is_not_registered_is_refused_with_the_remedy(fed: Fed) -> None:
    document = {
        "apiVersion": "federation/v1",
        "kind": "Cluster",
        "metadata": {"name": "eu"},
        "spec": {"region": "eu"},
    }
    refused = fed("apply", "-f", "-", stdin=yaml.safe_dump(document))
    assert refused.code == 3
    assert "fed cluster register" in refused.err


def test_a_dry_run_changes_nothing(fed: Fed, plane: FakeControlPlane, fleet: Path) -> None:
    result = fed("apply", "-f", str(fleet), "--dry-run=server")
    assert result.out.splitlines()[0] == "region/eu-west created (server dry run)"
    assert plane.objects["regions"] == {}
    assert [m for m in plane.methods if m.startswith("PUT")] == [
        "PUT /api/v1/regions/eu-west?dryRun=true",
        "PUT /api/v1/deployments/filetype?dryRun=true",
    ]


def test_documents_and_names_can_be_printed(fed: Fed, fleet: Path) -> None:
    assert (
        fed("apply", "-f", str(fleet), "-o", "name").out == "region/eu-west\ndeployment/filetype\n"
    )
    printed = list(yaml.safe_load_all(fed("apply", "-f", str(fleet), "-o", "yaml").out))
    assert [document["kind"] for document in printed if document] == ["Region", "Deployment"]


def test_unreadable_files_are_told(fed: Fed, tmp_path: Path) -> None:
    assert "No such file" in fed("apply", "-f", str(tmp_path / "absent.yaml")).err
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in fed("apply", "-f", str(tmp_path / "binary")).err
    assert fed("apply").code == 2


# ------------------------------------------------------------ diff


def test_diff_shows_what_apply_would_change(fed: Fed, plane: FakeControlPlane, fleet: Path) -> None:
    fresh = fed("diff", "-f", str(fleet))
    assert fresh.code == 8
    assert "+++ " in fresh.out
    assert "+  model: filetype" in fresh.out
    assert plane.objects["regions"] == {}
    fed("apply", "-f", str(fleet))
    same = fed("diff", "-f", str(fleet))
    assert (same.code, same.out) == (0, "")
    changed = fed("diff", "-f", "-", stdin=FLEET.replace("53.3", "54.4"))
    assert changed.code == 8
    assert "-    latitude: 53.3" in changed.out
    assert "+    latitude: 54.4" in changed.out
    assert "deployment/filetype" not in changed.out


ROLLOUT = """\
apiVersion: federation/v1
kind: Rollout
metadata: {name: m-2}
spec:
  model: m
  version: 2
  strategy:
    waves:
      - regions: [eu-west]
      - regions: ["*"]
        approval: true
    steps: [5, 25, 100]
    bake_s: 120
    analysis:
      max_error_rate: 0.01
"""


def test_a_rollout_is_a_file_too(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("apply", "-f", "-", stdin=ROLLOUT).out == "rollout/m-2 created\n"
    assert plane.objects["rollouts"]["m-2"]["spec"]["strategy"]["waves"][1]["approval"] is True
    assert fed("apply", "-f", "-", stdin=ROLLOUT).out == "rollout/m-2 unchanged\n"


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("bake_s", "bakes", "line 13: unknown key 'bakes'. Did you mean 'bake_s'"),
        ("approval", "aproval", "line 11: unknown key 'aproval'. Did you mean 'approval'?"),
        ("max_error_rate", "max_errors", "line 15: unknown key 'max_errors'"),
        ("[5, 25, 100]", "5", "line 12"),
    ],
)
def test_a_mistake_in_a_rollout_is_told_with_its_line(
    fed: Fed, plane: FakeControlPlane, right: str, wrong: str, words: str
) -> None:
    told = fed("apply", "-f", "-", stdin=ROLLOUT.replace(right, wrong))
    assert told.code == 1
    assert words in told.err
    assert plane.requests == []
