"""What is missing is named, with what is lost and which rule would grant it."""

from pathlib import Path

import yaml

from edge_agent.policy.kube.permissions import (
    INVENTORY_NEEDS,
    Need,
    missing,
    ray_needs,
    triton_needs,
)
from federation.kube.resources import DEPLOYMENTS, NODES, PODS

DEPLOY = Path(__file__).resolve().parents[4] / "deploy"


def everything() -> dict[tuple[object, str], bool]:
    return {(need.resource, verb): True for need in INVENTORY_NEEDS for verb in need.verbs}


def test_nothing_is_missing() -> None:
    assert missing(INVENTORY_NEEDS, everything()) == []  # type: ignore[arg-type]


def test_what_was_not_asked_is_not_missing() -> None:
    assert missing(INVENTORY_NEEDS, {}) == []


def test_a_missing_verb_is_named_with_its_rule() -> None:
    allowed = everything() | {(PODS, "watch"): False}
    (sentence,) = missing(INVENTORY_NEEDS, allowed)  # type: ignore[arg-type]
    assert sentence.startswith("may not watch pods in the whole cluster: what other workloads hold")
    assert (
        "a ClusterRole with apiGroups [''], resources ['pods'], verbs ['list', 'watch']" in sentence
    )


def test_several_and_those_of_a_namespace() -> None:
    need = Need(
        DEPLOYMENTS, ("create", "patch"), namespace="serving", loss="no model can be served"
    )
    refused = {
        (DEPLOYMENTS, "create"): False,
        (DEPLOYMENTS, "patch"): False,
        (NODES, "list"): False,
    }
    first, second = missing([need, *INVENTORY_NEEDS], refused)
    assert first.startswith(
        "may not create and patch deployments.apps in the namespace serving: no"
    )
    assert "a Role with apiGroups ['apps']" in first
    assert second.startswith("may not list nodes")


def test_the_role_in_deploy_grants_what_engines_need_and_nothing_is_a_star() -> None:
    text = (DEPLOY / "kubernetes/edge-agent/engines/rbac.yaml").read_text(encoding="utf-8")
    role = next(each for each in yaml.safe_load_all(text) if each["kind"] == "Role")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    for need in (*triton_needs("x"), *ray_needs("x")):
        for verb in need.verbs:
            assert (need.resource.group, need.resource.plural, verb) in granted, need
    assert not any("*" in part for entry in granted for part in entry)


def test_engines_needs_are_of_their_namespace() -> None:
    needs = (*triton_needs("serving"), *ray_needs("serving"))
    assert {need.namespace for need in needs} == {"serving"}
    assert all(need.loss for need in needs)
