import json

import pytest

from federation.cli.deploy import default_name
from federation.cli.documents import Json
from federation.contract.names import check_name
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

READY: Json = {"ready": True, "version": 1, "routed_version": 1, "warm": 2, "wanted": 2}


def spec(plane: FakeControlPlane, name: str = "filetype") -> Json:
    found: Json = plane.objects["deployments"][name]["spec"]
    return found


def test_a_new_deployment_has_what_the_flags_say(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed(
        *("deploy", "filetype@2", "--regions", "eu-west,us-east", "--replicas", "3"),
        *("--pinned", "1,3", "--residency", "eu-west", "--label", "tier=gold"),
    )
    assert result.out == "deployment/filetype created\n"
    assert spec(plane) == {
        "model": "filetype",
        "version": 2,
        "pinned_versions": [1, 3],
        "regions": ["eu-west", "us-east"],
        "cluster_labels": {"tier": "gold"},
        "replicas": 3,
        "scaling": {
            "mode": "fixed",
            "min": 1,
            "max": 1,
            "target": 0.7,
            "up_s": 15.0,
            "down_s": 300.0,
        },
        "resources": None,
        "residency": ["eu-west"],
        "clusters": 0,
        "spread": True,
        "anti_affinity": [],
        "engine": None,
        "max_price_per_gpu_hour": 0.0,
        "rollout": None,
    }


def test_what_no_flag_names_stays_as_it_is(fed: Fed, plane: FakeControlPlane) -> None:
    fed("deploy", "filetype@1", "--regions", "eu-west", "--replicas", "3")
    assert fed("deploy", "filetype@champion").out == "deployment/filetype configured\n"
    held = spec(plane)
    assert (held["version"], held["regions"], held["replicas"]) == ("champion", ["eu-west"], 3)
    assert fed("deploy", "filetype", "--replicas", "4", "--regions", "").code == 0
    held = spec(plane)
    assert (held["version"], held["regions"], held["replicas"]) == ("champion", [], 4)
    assert fed("deploy", "filetype").out == "deployment/filetype unchanged\n"


def test_a_deployment_never_changes_its_model_by_accident(fed: Fed) -> None:
    fed("deploy", "filetype", "--name", "main")
    refused = fed("deploy", "shakespeare", "--name", "main")
    assert refused.code == 5
    assert "serves model 'filetype'" in refused.err


def test_a_change_in_between_is_a_conflict(fed: Fed, plane: FakeControlPlane) -> None:
    fed("deploy", "filetype")
    other = {**spec(plane), "replicas": 9}
    plane.on_read = lambda: plane.put("deployments", "filetype", other)
    refused = fed("deploy", "filetype", "--replicas", "2")
    assert refused.code == 5
    assert spec(plane)["replicas"] == 9


@pytest.mark.parametrize("bad", ["file/type", "filetype@", "../x", "filetype@UP", ""])
def test_a_bad_reference_is_refused_before_anything_is_sent(
    fed: Fed, plane: FakeControlPlane, bad: str
) -> None:
    assert fed("deploy", bad).code in (1, 2)
    assert plane.requests == []


@pytest.mark.parametrize("model", ["filetype", "Char_GRU.v2", "a", "x-", "x_"])
def test_the_default_name_is_a_valid_name(model: str) -> None:
    check_name("deployment", default_name(model))


def test_wait_ends_when_it_is_ready(fed: Fed, plane: FakeControlPlane) -> None:
    plane.statuses = lambda _plural, _name: READY
    result = fed("deploy", "filetype", "--wait", "--timeout", "5s")
    assert result.code == 0
    assert "deployment/filetype is ready: filetype version 1 is warm at 2 clusters" in result.err
    assert result.out == "deployment/filetype created\n"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"ready": False}, "no cluster has it warm yet"),
        ({**READY, "routed_version": 0}, "routers still send requests to version 0, not 1"),
        (
            {"ready": False, "cannot": [{"cluster": "ap", "reason": "no GPU is free"}]},
            "ap: no GPU is free",
        ),
    ],
)
def test_wait_ends_with_7_and_the_reason(
    fed: Fed, plane: FakeControlPlane, status: Json, told: str
) -> None:
    plane.statuses = lambda _plural, _name: status
    result = fed("deploy", "filetype", "--wait", "--timeout", "100ms")
    assert result.code == 7
    assert told in result.err


def test_clusters_that_cannot_are_told_at_once(fed: Fed, plane: FakeControlPlane) -> None:
    plane.statuses = lambda _plural, _name: {"cannot": [{"cluster": "ap", "reason": "no code"}]}
    assert fed("deploy", "filetype").err == "not at ap: no code\n"


def test_a_dry_run_shows_the_plan_and_changes_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    row = {"cluster": "eu-1", "region": "eu", "version": 1, "replicas": 2, "reason": ""}
    plane.plan = {"keep": [row]}
    for words in (["--dry-run=server", "--wait"], ["--dry-run"]):
        shown = fed("deploy", "filetype", *words).out.splitlines()
        assert shown[0] == "deployment/filetype (new): model filetype, version 1"
        assert shown[2].split() == ["keep", "eu-1", "eu", "1", "2", "-", "-"]
    assert plane.objects["deployments"] == {}
    assert json.loads(fed("deploy", "filetype", "--dry-run", "-o", "json").out)["keep"] == [row]
    assert fed("deploy", "--dry-run", "filetype").code == 0, "its place does not matter"
    assert fed("deploy", "filetype", "--dry-run=client").code == 2


def test_other_forms(fed: Fed, plane: FakeControlPlane) -> None:
    assert json.loads(fed("deploy", "filetype", "-o", "json").out)["kind"] == "Deployment"
    assert fed("deploy", "filetype", "-o", "name").out == "deployment/filetype\n"


def test_where_it_goes_can_be_narrowed(fed: Fed, plane: FakeControlPlane) -> None:
    fed(
        *("deploy", "filetype", "--clusters", "2", "--engine", "triton"),
        *("--apart-from", "llama,gpt", "--max-price", "2.5"),
    )
    fed("deploy", "filetype", "--replicas", "2")
    held = spec(plane)
    assert (held["clusters"], held["engine"], held["max_price_per_gpu_hour"]) == (2, "triton", 2.5)
    assert held["anti_affinity"] == ["llama", "gpt"]
    assert fed("deploy", "filetype", "--engine", "static").code == 2
    assert fed("deploy", "filetype", "--clusters", "-1").code == 2


def test_replicas_can_follow_the_load(fed: Fed, plane: FakeControlPlane) -> None:
    fed("deploy", "filetype", "--max", "8", "--target", "0.6")
    fed("deploy", "filetype", "--clusters", "2")
    assert spec(plane)["scaling"]["mode"] == "auto"
    assert (spec(plane)["scaling"]["min"], spec(plane)["scaling"]["max"]) == (1, 8)
    assert spec(plane)["scaling"]["target"] == 0.6
    fed("deploy", "filetype", "--scaling", "engine")
    assert spec(plane)["scaling"]["mode"] == "engine"
    refused = fed("deploy", "filetype", "--replicas", "2", "--max", "3")
    assert refused.code == 2
    assert "say one or the other" in refused.err


def test_waiting_is_for_the_end_of_a_rollout(fed: Fed, plane: FakeControlPlane) -> None:
    plane.statuses = lambda _plural, _name: {**READY, "rollout": "filetype-2"}
    late = fed("deploy", "filetype", "--wait", "--timeout", "10ms")
    assert late.code == 7
    assert "rollout filetype-2 goes on" in late.err
    assert "rollout filetype-2 goes on" in fed("get", "deployments").out
    plane.statuses = lambda _plural, _name: {**READY, "rollout": "", "rejected": 2}
    back = fed("deploy", "filetype", "--replicas", "2", "--wait")
    assert back.code == 1
    assert "version 2 was rolled back: version 1 serves" in back.err


def test_new_versions_can_go_through_rollouts(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("deploy", "m", "--waves", "eu; *", "--steps", "5,100", "--gate", "2").code == 0
    held = plane.objects["deployments"]["m"]["spec"]["rollout"]
    assert [wave["approval"] for wave in held["waves"]] == [False, True]
    assert held["steps"] == [5, 100]
    assert fed("deploy", "m", "--bake", "10m").code == 0
    held = plane.objects["deployments"]["m"]["spec"]["rollout"]
    assert (held["bake_s"], held["steps"]) == (600, [5, 100])
    assert fed("deploy", "m", "--replicas", "2").code == 0
    assert plane.objects["deployments"]["m"]["spec"]["rollout"] == held
    assert "Bake s" in fed("describe", "deployment", "m").out
    assert fed("deploy", "m", "--no-rollout", "--steps", "100").code == 2
    assert fed("deploy", "m", "--no-rollout").code == 0
    assert plane.objects["deployments"]["m"]["spec"]["rollout"] is None
