import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends import ray_applications as ray
from edge_agent.backends.base import StagedVersion
from federation.contract.capacity import Resources
from federation.contract.types import ModelProtocol, Runtime
from tests.engines.packages import add_package, count_package

SERVE = "http://127.0.0.1:8123"


@pytest.fixture
def staged(tmp_path: Path) -> StagedVersion:
    return add_package(tmp_path)


def details(*applications: dict[str, Any], running: bool = True) -> dict[str, Any]:
    told: dict[str, Any] = {"applications": {a["name"]: a for a in applications}}
    if running:
        told |= {
            "controller_info": {"actor_id": "a"},
            "proxy_location": "HeadOnly",
            "http_options": {"host": "10.0.0.1", "port": 9},
        }
    return told


def deployed(
    staged: StagedVersion, status: str = "RUNNING", states: tuple[str, ...] = ("RUNNING",)
) -> dict[str, Any]:
    config = ray.make_application(staged, "file:///a.zip", 0.1)
    return {
        "name": config["name"],
        "status": status,
        "deployed_app_config": config,
        "deployments": {"Model": {"replicas": [{"state": state} for state in states]}},
    }


def test_an_application_asks_for_what_the_package_needs(staged: StagedVersion) -> None:
    package = dataclasses.replace(staged.package, resources=Resources(gpus=2, memory_mib=3))
    wanted = dataclasses.replace(staged, package=package, replicas=4)
    application = ray.make_application(wanted, "file:///a.zip", 0.5)
    (deployment,) = application["deployments"]
    assert deployment["num_replicas"] == 4
    assert deployment["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 2, "memory": 3 << 20}
    assert application["route_prefix"] == "/add--v1"
    assert ray.digest_of({"deployed_app_config": application}) == staged.digest


def test_an_import_path_of_the_owner_is_taken_as_it_is(staged: StagedVersion) -> None:
    package = dataclasses.replace(staged.package, runtime=Runtime.RAY_SERVE, import_path="a:b")
    application = ray.make_application(dataclasses.replace(staged, package=package), "u", 0.1)
    assert application["import_path"] == "a:b"
    assert "deployments" not in application


def test_a_change_keeps_all_that_is_deployed(staged: StagedVersion) -> None:
    foreign = {"name": "x", "status": "DEPLOY_FAILED", "deployed_app_config": {"name": "x"}}
    imperative = {"name": "y", "status": "RUNNING", "deployed_app_config": None}
    config = ray.make_config(
        details(deployed(staged), foreign, imperative), {"new--v1": {"name": "new--v1"}}, SERVE
    )
    assert [a["name"] for a in config["applications"]] == ["add--v1", "new--v1", "x"]
    assert config["http_options"] == {"host": "10.0.0.1", "port": 9}
    assert config["proxy_location"] == "HeadOnly"


def test_none_removes_and_what_failed_of_ours_goes_too(staged: StagedVersion) -> None:
    failed = deployed(dataclasses.replace(staged, version=2), status="DEPLOY_FAILED")
    config = ray.make_config(details(deployed(staged), failed), {"add--v1": None}, SERVE)
    assert config["applications"] == []


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:8123", "127.0.0.1", 8123),
        ("http://localhost:1", "127.0.0.1", 1),
        ("http://ray-head:8000", "0.0.0.0", 8000),
        ("http://ray-head", "0.0.0.0", 80),
    ],
)
def test_the_first_change_says_where_serve_listens(url: str, host: str, port: int) -> None:
    config = ray.make_config(details(running=False), {}, url)
    assert config == {"applications": [], "http_options": {"host": host, "port": port}}


@pytest.mark.parametrize(
    ("status", "states", "replicas"),
    [
        ("RUNNING", ("RUNNING", "RUNNING"), 2),
        ("DEPLOYING", ("RUNNING", "STARTING"), 1),
        ("UNHEALTHY", ("RUNNING",), 1),
        ("RUNNING", (), None),
        ("UNHEALTHY", ("STARTING",), None),
        ("DELETING", ("RUNNING",), None),
        ("DEPLOY_FAILED", ("RUNNING",), None),
    ],
)
def test_loaded_means_a_replica_that_runs(
    staged: StagedVersion, status: str, states: tuple[str, ...], replicas: int | None
) -> None:
    found = ray.loaded_versions(details(deployed(staged, status, states)))
    assert [v.replicas for v in found] == ([] if replicas is None else [replicas])
    assert all(v.digest == staged.digest for v in found)


def test_protocol_and_foreign_applications(tmp_path: Path) -> None:
    text = count_package(tmp_path)
    foreign = {"name": "default", "status": "RUNNING", "deployments": {}}
    (found,) = ray.loaded_versions(details(deployed(text), foreign))
    assert (found.model, found.protocol) == ("count", ModelProtocol.TEXT)
    assert ray.loaded_versions({}) == ()


def test_what_runs_is_the_same_only_if_all_of_it_is(staged: StagedVersion) -> None:
    (found,) = ray.loaded_versions(details(deployed(staged)))
    now = details(deployed(staged))
    assert ray.is_same(found, staged, now)
    assert not ray.is_same(found, dataclasses.replace(staged, digest="other"), now)
    assert not ray.is_same(found, dataclasses.replace(staged, replicas=2), now)
    assert not ray.is_same(found, dataclasses.replace(staged, max_replicas=2), now)


def test_the_autoscaler_is_told_its_limits_and_left_alone(staged: StagedVersion) -> None:
    wanted = dataclasses.replace(staged, replicas=2, max_replicas=6)
    application = deployed(wanted, states=("RUNNING",) * 4)
    (deployment,) = application["deployed_app_config"]["deployments"]
    assert deployment["autoscaling_config"] == {"min_replicas": 2, "max_replicas": 6}
    assert "num_replicas" not in deployment  # Ray refuses both
    now = details(application)
    (found,) = ray.loaded_versions(now)
    assert found.replicas == 4
    assert ray.is_same(found, wanted, now)
    assert not ray.is_same(found, dataclasses.replace(wanted, max_replicas=7), now)
    assert not ray.is_same(found, dataclasses.replace(wanted, replicas=4, max_replicas=0), now)


@pytest.mark.parametrize(
    ("status", "states", "serves"),
    [
        ("RUNNING", ("RUNNING",), True),
        ("DEPLOYING", ("RUNNING", "STARTING"), True),
        ("DEPLOYING", ("STARTING",), False),
        ("DEPLOY_FAILED", ("RUNNING",), False),
    ],
)
def test_what_serves_is_kept(
    staged: StagedVersion, status: str, states: tuple[str, ...], serves: bool
) -> None:
    application = deployed(staged, status, states)
    assert ray.serves(application, dataclasses.replace(staged, replicas=7)) is serves
    assert not ray.serves(application, dataclasses.replace(staged, digest="other"))
    assert not ray.serves({}, staged)


TRACEBACK = """Deploying app 'x' failed with exception:
Traceback (most recent call last):
  File "a.py", line 1, in <module>
ModuleNotFoundError: No module named 'torch'
ray.exceptions.RayTaskError: something around it
"""


@pytest.mark.parametrize(
    ("application", "reason"),
    [
        ({"status": "RUNNING", "message": TRACEBACK}, ""),
        (
            {"status": "DEPLOY_FAILED", "message": TRACEBACK},
            "ModuleNotFoundError: No module named 'torch'",
        ),
        (
            {
                "status": "DEPLOY_FAILED",
                "message": "Failed to update the deployments ['Model'].",
                "deployments": {"Model": {"message": "first\nValueError: too old\n"}},
            },
            "ValueError: too old",
        ),
        ({"status": "DEPLOY_FAILED", "message": "a\nno traceback"}, "no traceback"),
        ({"status": "DEPLOY_FAILED"}, "Ray Serve failed to deploy it and does not say why"),
    ],
)
def test_a_failure_is_told_by_the_line_that_names_it(application: Any, reason: str) -> None:
    assert ray.failure_of(application) == reason


def test_what_takes_long_tells_what_it_waits_for() -> None:
    told = {"message": "", "deployments": {"Model": {"message": "1 replica\nwaits for GPU"}}}
    assert ray.waiting_for(told) == "1 replica waits for GPU"
