"""What we tell Ray Serve of one version, and what Ray Serve tells us back. Pure: no I/O.

Input: a StagedVersion, or the details that `GET /api/serve/applications/` answers. Output: the
application to deploy, the whole configuration for a PUT (which deletes what it does not list), or
the versions that are loaded. Ray keeps no notes for us, so ours travel in `env_vars`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from edge_agent.backends.base import LoadedVersion, StagedVersion, engine_name, parse_engine_name
from edge_agent.backends.engine_http import one_line
from federation.contract.types import ModelProtocol, Runtime

Details = Mapping[str, Any]

DIGEST_VARIABLE = "FED_DIGEST"
PROTOCOL_VARIABLE = "FED_PROTOCOL"
_OUR_IMPORT_PATH = "edge_agent.serving.ray_app:build"
_OUR_DEPLOYMENT = "Model"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ONGOING = 64  # requests at once in a replica; the gateway in front of it limits, Ray only queues
_STILL_SERVING = {"RUNNING", "DEPLOYING", "UNHEALTHY"}  # every PUT shows DEPLOYING for a moment


def make_application(staged: StagedVersion, archive: str, cpus: float) -> dict[str, Any]:
    """Return one version as an application; `archive` is the URI of its zip."""
    name = engine_name(staged.model, staged.version)
    ours = staged.package.runtime is not Runtime.RAY_SERVE
    application: dict[str, Any] = {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": _OUR_IMPORT_PATH if ours else staged.package.import_path,
        "runtime_env": {
            "working_dir": archive,
            "env_vars": {
                DIGEST_VARIABLE: staged.digest,
                PROTOCOL_VARIABLE: staged.package.protocol.value,
            },
        },
    }
    if ours:
        application["deployments"] = [_deployment(staged, cpus)]
    return application


def _deployment(staged: StagedVersion, cpus: float) -> dict[str, Any]:
    resources = staged.package.resources
    options: dict[str, float] = {"num_cpus": cpus, "num_gpus": resources.gpus}
    if resources.memory_mib:
        options["memory"] = resources.memory_mib << 20
    number: dict[str, Any] = {"num_replicas": max(staged.replicas, 1)}
    if staged.max_replicas:
        number = {"autoscaling_config": _limits(staged)}
    return {
        "name": _OUR_DEPLOYMENT,
        **number,
        "max_ongoing_requests": _ONGOING,
        "max_surge_percent": 100,  # a new replica serves before the old one stops
        "health_check_period_s": 2,
        "graceful_shutdown_timeout_s": 10,
        "ray_actor_options": options,
    }


def make_config(
    details: Details, wanted: Mapping[str, Mapping[str, Any] | None], serve_url: str
) -> dict[str, Any]:
    """Return the configuration to PUT: what is deployed now, changed by `wanted` (None = gone).

    Applications of others stay as they are. Of ours, those that failed to deploy are left out, so
    that Ray does not try them again and again.
    """
    kept = {
        name: application["deployed_app_config"]
        for name, application in applications(details).items()
        if application.get("deployed_app_config") and not _is_hopeless(name, application)
    }
    changed = {**kept, **wanted}
    config: dict[str, Any] = {
        "applications": [changed[name] for name in sorted(changed) if changed[name] is not None]
    }
    if details.get("controller_info", {}).get("actor_id"):  # Serve runs: its options are fixed
        config["proxy_location"] = details.get("proxy_location") or "EveryNode"
        for key in ("http_options", "grpc_options"):
            if details.get(key):
                config[key] = details[key]
        return config
    address = urlsplit(serve_url)
    host = "127.0.0.1" if address.hostname in _LOOPBACK else "0.0.0.0"  # noqa: S104 - many nodes
    config["http_options"] = {"host": host, "port": address.port or 80}
    return config


def applications(details: Details) -> Mapping[str, Any]:
    """Return the applications by name."""
    found = details.get("applications")
    return found if isinstance(found, Mapping) else {}


def loaded_versions(details: Details) -> tuple[LoadedVersion, ...]:
    """Return our versions that have at least one running replica."""
    found = []
    for name, application in sorted(applications(details).items()):
        parsed = parse_engine_name(name)
        if parsed is None or application.get("status") not in _STILL_SERVING:
            continue
        if running := _running_replicas(application):
            notes = _notes(application)
            text = notes.get(PROTOCOL_VARIABLE) == ModelProtocol.TEXT.value
            found.append(
                LoadedVersion(
                    model=parsed[0],
                    version=parsed[1],
                    digest=str(notes.get(DIGEST_VARIABLE, "")),
                    protocol=ModelProtocol.TEXT if text else ModelProtocol.TENSOR,
                    replicas=running,
                )
            )
    return tuple(found)


def _limits(staged: StagedVersion) -> dict[str, int]:
    least = max(staged.replicas, 1)
    return {"min_replicas": least, "max_replicas": max(staged.max_replicas, least)}


def is_same(found: LoadedVersion, staged: StagedVersion, details: Details) -> bool:
    """Return whether what runs is already what is wanted."""
    theirs = (found.model, found.version, found.digest)
    if theirs != (staged.model, staged.version, staged.digest):
        return False
    application = applications(details).get(engine_name(found.model, found.version), {})
    config = application.get("deployed_app_config") or {}
    scaled = [
        dict(deployment["autoscaling_config"])
        for deployment in config.get("deployments", [])
        if deployment.get("autoscaling_config")
    ]
    ours = staged.package.runtime is not Runtime.RAY_SERVE
    if staged.max_replicas and ours:
        return [{name: each.get(name) for name in _limits(staged)} for each in scaled] == [
            _limits(staged)
        ]
    return not (scaled and ours) and found.replicas == max(staged.replicas, 1)


def serves(application: Mapping[str, Any], staged: StagedVersion) -> bool:
    """Return whether an application has replicas that run with this content."""
    running = application.get("status") in _STILL_SERVING and _running_replicas(application)
    return bool(running) and digest_of(application) == staged.digest


def digest_of(application: Mapping[str, Any]) -> str:
    """Return the digest that an application was deployed with; "" if it is not one of ours."""
    return str(_notes(application).get(DIGEST_VARIABLE, ""))


def failure_of(application: Mapping[str, Any]) -> str:
    """Return why an application failed to deploy, in one line; "" if it did not."""
    if application.get("status") != "DEPLOY_FAILED":
        return ""
    deployments = application.get("deployments", {}).values()
    messages = [str(each.get("message", "")) for each in (*deployments, application)]
    for message in messages:
        lines = [line for line in message.splitlines() if line.strip()]
        if errors := [line for line in lines if _is_exception(line)]:
            return one_line(errors[-1])
        if lines:
            return one_line(lines[-1])
    return "Ray Serve failed to deploy it and does not say why"


def waiting_for(application: Mapping[str, Any]) -> str:
    """Return what a deployment that takes long is waiting for, in one line; may be empty."""
    told = [str(d.get("message", "")) for d in application.get("deployments", {}).values()]
    return one_line(" ".join([*told, str(application.get("message", ""))]))


def _is_exception(line: str) -> bool:
    """Whether a line of a traceback is the one that names the exception."""
    name, colon, _ = line.partition(":")
    known = name.endswith(("Error", "Exception", "Interrupt", "Exit"))
    return bool(colon) and known and " " not in name and not name.startswith("ray.")


def _is_hopeless(name: str, application: Mapping[str, Any]) -> bool:
    return parse_engine_name(name) is not None and application.get("status") == "DEPLOY_FAILED"


def _notes(application: Mapping[str, Any]) -> Mapping[str, Any]:
    config = application.get("deployed_app_config") or {}
    notes = config.get("runtime_env", {}).get("env_vars", {})
    return notes if isinstance(notes, Mapping) else {}


def _running_replicas(application: Mapping[str, Any]) -> int:
    """Return the running replicas of the deployment that has fewest: the weakest link."""
    counts = [
        sum(replica.get("state") == "RUNNING" for replica in deployment.get("replicas", []))
        for deployment in application.get("deployments", {}).values()
    ]
    return min(counts, default=0)
