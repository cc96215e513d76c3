"""What is missing is named, with what is lost and which rule would grant it."""

from edge_agent.policy.kube.permissions import INVENTORY_NEEDS, Need, missing
from edge_agent.policy.kube.resources import DEPLOYMENTS, NODES, PODS


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
