"""Every manifest is valid to the letter, and keeps the rules that a schema cannot tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from edge_agent.policy.kube.permissions import INVENTORY_NEEDS
from edge_agent.settings import Settings as AgentSettings
from edge_agent.settings import check as check_agent
from federation.bridge.policy.custom import BRIDGED
from federation.bridge.settings import Settings as BridgeSettings
from federation.bridge.settings import check as check_bridge
from federation.kube.resources import OUR_GROUP
from federation.runtime.config import load_settings
from federation.settings import Settings as ControlPlaneSettings
from federation.settings import check_settings
from router.settings import Settings as RouterSettings
from router.settings import check as check_router
from tests.deploy import files
from tests.deploy.files import Manifest, Obj, pod_specs

OTHERS = "monitoring.coreos.com/v1"  # kinds of the Prometheus operator: no schema here has them
KUBERNETES = "1.36"
CRD = "CustomResourceDefinition"
READ = {"get", "list", "watch"}
SETS = [*files.kustomizations(), *(f"helm ({name})" for name in files.VALUES)]


def of(name: str) -> tuple[Manifest, ...]:
    if name.startswith("helm ("):
        return files.charted(name.removeprefix("helm (").removesuffix(")"))
    return files.kustomized(name)


def kinds(manifests: tuple[Manifest, ...], *wanted: str) -> list[Obj]:
    return [m.obj for m in manifests if m.obj["kind"] in wanted]


@pytest.fixture(params=SETS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return of(request.param)


def test_the_list_of_manifests_has_all() -> None:
    found = files.manifests()
    assert {m.source for m in found} == set(SETS)
    kinds_found = {m.obj["kind"] for m in found}
    assert {"StatefulSet", "ClusterRole", "NetworkPolicy", "ServiceMonitor"} <= kinds_found


def test_each_is_valid_to_the_letter(manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        if manifest.obj["apiVersion"] != OTHERS:
            kubernetes_validate.validate(manifest.obj, KUBERNETES, strict=True)


def test_the_validator_would_see_a_typing_error() -> None:
    broken = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x"},
        "spec": {"prots": 1},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_no_two_are_the_same_object(manifests: tuple[Manifest, ...]) -> None:
    names = [(m.obj["kind"], m.obj["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))


def test_all_lie_in_the_namespace(manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        expected = None if manifest.obj["kind"] in files.CLUSTER_WIDE else files.NAMESPACE
        assert manifest.obj["metadata"].get("namespace") == expected, str(manifest)


def test_pods_are_restricted(manifests: tuple[Manifest, ...]) -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards/ wants it."""
    for manifest, template in pod_specs(manifests):
        spec = template["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["runAsUser"] > 0
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for volume in spec["volumes"]:
            allowed = {"emptyDir", "secret", "configMap", "projected", "persistentVolumeClaim"}
            assert set(volume) - {"name"} <= allowed, volume
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, str(manifest)
            assert all("hostPort" not in port for port in container.get("ports", ()))
            assert {"requests", "limits"} <= set(container["resources"])
            assert "memory" in container["resources"]["limits"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert probe in container, f"{manifest} {container['name']}"
            image = container["image"]
            assert image.partition(":")[2] not in ("", "latest"), image


def test_ports_and_volumes_that_are_named_exist(manifests: tuple[Manifest, ...]) -> None:
    for manifest, template in pod_specs(manifests):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        claims = manifest.obj["spec"].get("volumeClaimTemplates", [])
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounted = set()
        for container in spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if asked := container[probe].get("httpGet"):
                    assert asked["port"] in ports
            mounted |= {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == volumes, f"{manifest}: mounted, and there"


def _labels(manifests: tuple[Manifest, ...]) -> list[Mapping[str, str]]:
    return [template["metadata"]["labels"] for _, template in pod_specs(manifests)]


def _selects(selector: Mapping[str, str], manifests: tuple[Manifest, ...]) -> bool:
    return any(selector.items() <= labels.items() for labels in _labels(manifests))


# Pods that are not ours to write: engines that the agent makes.
MADE_LATER = {"federation.inference/managed-by": "edge-agent"}


def test_policies_services_and_budgets_select_something(manifests: tuple[Manifest, ...]) -> None:
    for obj in kinds(manifests, "NetworkPolicy", "PodDisruptionBudget", "Service"):
        spec = obj["spec"]
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        if selector and not MADE_LATER.items() <= selector.items():
            assert _selects(selector, manifests), obj["metadata"]["name"]
    for obj in kinds(manifests, "Service"):
        names = {
            port["name"]
            for _, template in pod_specs(manifests)
            if obj["spec"]["selector"].items() <= template["metadata"]["labels"].items()
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in obj["spec"]["ports"]} <= names


def test_stateful_sets_have_their_service(manifests: tuple[Manifest, ...]) -> None:
    services = {obj["metadata"]["name"]: obj for obj in kinds(manifests, "Service")}
    for obj in kinds(manifests, "StatefulSet"):
        assert services[obj["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
        selector = obj["spec"]["selector"]["matchLabels"]
        assert selector.items() <= obj["spec"]["template"]["metadata"]["labels"].items()


def test_each_account_is_used_and_each_binding_meets_its_role(
    manifests: tuple[Manifest, ...],
) -> None:
    accounts = {obj["metadata"]["name"] for obj in kinds(manifests, "ServiceAccount")}
    assert {t["spec"]["serviceAccountName"] for _, t in pod_specs(manifests)} == accounts
    roles = {(o["kind"], o["metadata"]["name"]) for o in kinds(manifests, "Role", "ClusterRole")}
    bound = set()
    for obj in kinds(manifests, "RoleBinding", "ClusterRoleBinding"):
        bound.add((obj["roleRef"]["kind"], obj["roleRef"]["name"]))
        for subject in obj["subjects"]:
            assert subject["name"] in accounts
            assert subject["namespace"] == files.NAMESPACE
    assert bound == roles


def test_roles_are_the_smallest(manifests: tuple[Manifest, ...]) -> None:
    for obj in kinds(manifests, "Role", "ClusterRole"):
        for rule in obj["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "secrets", "pods/exec", "escalate", "bind", "impersonate"}
            if rule["apiGroups"] != [OUR_GROUP]:
                assert not any(resource.endswith("/status") for resource in rule["resources"])
            if obj["kind"] == "ClusterRole":
                assert set(rule["verbs"]) <= READ


def _granted(obj: Obj) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in obj["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


@pytest.mark.parametrize("name", ["kubernetes/edge-agent", "helm (everything)"])
def test_the_agent_may_do_what_it_asks_for_and_no_more(name: str) -> None:
    (role,) = kinds(of(name), "ClusterRole")
    granted = _granted(role)
    needed = {(n.resource.group, n.resource.plural): set(n.verbs) for n in INVENTORY_NEEDS}
    assert set(granted) == set(needed)
    for resource, verbs in needed.items():
        assert verbs <= granted[resource] <= verbs | {"get"}


def test_without_the_right_to_see_pods_only_they_are_missing() -> None:
    (some,) = kinds(of("helm (agent alone)"), "ClusterRole")
    (every,) = kinds(of("helm (everything)"), "ClusterRole")
    assert set(_granted(every)) - set(_granted(some)) == {("", "pods")}


def test_both_ways_give_the_engines_the_same_rights() -> None:
    assert rules("kubernetes/all-in-one", "edge-agent-engines") == rules(
        "helm (everything)", "edge-agent-engines"
    )


def rules(name: str, role: str) -> list[str]:
    (found,) = [obj for obj in kinds(of(name), "Role") if obj["metadata"]["name"] == role]
    return sorted(str(sorted(rule.items())) for rule in found["rules"])


def test_the_bridge_may_write_finalizers_and_statuses_of_our_kinds_alone() -> None:
    assert rules("kubernetes/bridge", "bridge") == rules("helm (bridge alone)", "bridge")
    assert not kinds(of("helm (bridge alone)"), "ClusterRole", "CustomResourceDefinition")
    (role,) = kinds(of("kubernetes/bridge"), "Role")
    plurals = [bridged.resource.plural for bridged in BRIDGED]
    assert _granted(role) == {
        **{(OUR_GROUP, plural): {"list", "watch", "patch"} for plural in plurals},
        **{(OUR_GROUP, f"{plural}/status"): {"patch"} for plural in plurals},
    }


def test_both_ways_have_the_same_definitions() -> None:
    ours, charts = (
        {obj["metadata"]["name"]: obj["spec"] for obj in kinds(of(name), CRD)}
        for name in ("kubernetes/bridge", "helm (everything)")
    )
    assert ours == charts
    assert len(ours) == len(BRIDGED)
    for obj in kinds(of("helm (everything)"), CRD):  # a release that goes takes no objects along
        assert obj["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


SETTINGS: dict[str, tuple[type[Any], Any]] = {
    "control-plane": (ControlPlaneSettings, check_settings),
    "router": (RouterSettings, check_router),
    "edge-agent": (AgentSettings, check_agent),
    "bridge": (BridgeSettings, check_bridge),
}
GIVEN_LATER = {"FED_CA_PIN": "sha256:" + 64 * "0", "FED_NAME": "router-0"}


def environment(container: Obj, manifests: tuple[Manifest, ...]) -> dict[str, str]:
    """What the process would see, apart from what it is given from secrets."""
    maps = {obj["metadata"]["name"]: obj["data"] for obj in kinds(manifests, "ConfigMap")}
    found = dict(maps[container["envFrom"][0]["configMapRef"]["name"]])
    for entry in container["env"]:
        value = entry.get("value") or GIVEN_LATER[entry["name"]]
        found[entry["name"]] = value.replace("$(FED_NAME)", "router-0")
    return found


def test_settings_are_such_that_the_process_takes_them(manifests: tuple[Manifest, ...]) -> None:
    for manifest, template in pod_specs(manifests):
        role = manifest.obj["metadata"]["name"]
        container = next(c for c in template["spec"]["containers"] if c["name"] == role)
        cls, check = SETTINGS[role]
        seen = environment(container, manifests)
        unknown = {name for name in seen if name[4:].lower() not in cls.__dataclass_fields__}
        assert unknown == set(), f"{manifest}: settings that there are not"
        settings = load_settings(cls, prog=role, argv=[], environ=seen)
        check(settings)
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        if role == "bridge":
            assert mounts[str(Path(settings.token_file).parent)] == "access"
            assert Path(settings.token_file).parent == Path(settings.ca_file).parent
        else:
            assert mounts[settings.state_dir] == "state"
        ports = {port["containerPort"] for port in container["ports"]}
        listens = {name: value for name, value in seen.items() if name.endswith("_LISTEN")}
        for name, value in listens.items():
            if value and name != "FED_INSECURE_LISTEN":
                host, _, port = value.rpartition(":")
                assert (host, int(port) in ports) == ("0.0.0.0", True), name


def test_policies_open_the_ports_that_there_are(manifests: tuple[Manifest, ...]) -> None:
    for obj in kinds(manifests, "NetworkPolicy"):
        selector = obj["spec"]["podSelector"].get("matchLabels")
        for _, template in pod_specs(manifests):
            if not selector or not selector.items() <= template["metadata"]["labels"].items():
                continue
            containers = template["spec"]["containers"]
            there = {p["containerPort"] for c in containers for p in c.get("ports", ())}
            opened = {p["port"] for rule in obj["spec"]["ingress"] for p in rule["ports"]}
            assert opened == there, obj["metadata"]["name"]


def test_the_agents_token_is_in_its_own_container_alone() -> None:
    (found,) = [t for m, t in pod_specs(of("kubernetes/all-in-one")) if "edge" in str(m)]
    mounts = {
        c["name"]: [v["name"] for v in c["volumeMounts"]] for c in found["spec"]["containers"]
    }
    assert "account" in mounts["edge-agent"]
    assert not {"account", "state", "join"} & set(mounts["triton"])


def test_the_namespace_refuses_pods_that_are_not_restricted() -> None:
    (obj,) = kinds(of("kubernetes/namespace"), "Namespace")
    assert obj["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_service_monitors_meet_services() -> None:
    every = [*of("kubernetes/all-in-one"), *of("kubernetes/bridge"), *of("monitoring")]
    for manifests in (tuple(every), of("helm (everything)")):
        monitors = kinds(manifests, "ServiceMonitor")
        assert len(monitors) == 4
        for monitor in monitors:
            selector = monitor["spec"]["selector"]["matchLabels"]
            (service,) = [
                s
                for s in kinds(manifests, "Service")
                if selector.items() <= s["metadata"]["labels"].items()
            ]
            names = {port["name"] for port in service["spec"]["ports"]}
            assert {end["port"] for end in monitor["spec"]["endpoints"]} <= names
