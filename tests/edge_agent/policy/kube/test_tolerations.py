import pytest

from edge_agent.policy.kube.tolerations import (
    GPU_TOLERATIONS,
    Toleration,
    keeping_away,
    toleration,
    written,
)
from federation.contract.errors import Invalid

TRAINING = {"key": "dedicated", "value": "training", "effect": "NoSchedule"}
BARE = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("short", "meant"),
    [
        ("nvidia.com/gpu", Toleration(key="nvidia.com/gpu", operator="Exists")),
        ("a:NoExecute", Toleration(key="a", operator="Exists", effect="NoExecute")),
        ("a=b", Toleration(key="a", value="b")),
        (" a=b:NoSchedule ", Toleration(key="a", value="b", effect="NoSchedule")),
        ("a=", Toleration(key="a")),
        ("*", Toleration(operator="Exists")),
        ("*:NoExecute", Toleration(operator="Exists", effect="NoExecute")),
    ],
)
def test_the_short_form(short: str, meant: Toleration) -> None:
    assert toleration(short) == meant


@pytest.mark.parametrize("short", ["", "=b", "a:Never", "a:", ":NoExecute", "*=b"])
def test_what_is_none_is_refused(short: str) -> None:
    with pytest.raises(Invalid, match="is no toleration"):
        toleration(short)


@pytest.mark.parametrize(
    ("short", "bears"),
    [
        ("dedicated", True),
        ("dedicated=training", True),
        ("dedicated=training:NoSchedule", True),
        ("dedicated:NoSchedule", True),
        ("*", True),
        ("dedicated=inference", False),
        ("dedicated=training:NoExecute", False),
        ("other", False),
        ("dedicated=", False),
    ],
)
def test_what_is_borne(short: str, bears: bool) -> None:
    assert toleration(short).bears(TRAINING) is bears


def test_a_taint_without_value_equals_an_empty_one() -> None:
    assert Toleration(key="nvidia.com/gpu").bears(BARE)


def test_an_operator_of_tomorrow_bears_nothing() -> None:
    assert not Toleration(key="dedicated", operator="Gt", value="5").bears(TRAINING)
    assert not Toleration(operator="Equal").bears({"key": "", "effect": "NoSchedule"})


def test_only_hard_taints_keep_away() -> None:
    soft = {"key": "old", "effect": "PreferNoSchedule"}
    assert keeping_away([TRAINING, BARE, soft], GPU_TOLERATIONS) == [TRAINING]
    assert written(TRAINING) == "dedicated=training:NoSchedule"
    assert written(BARE) == "nvidia.com/gpu:NoSchedule"
