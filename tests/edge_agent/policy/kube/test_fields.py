from decimal import Decimal
from typing import Any

import pytest

from edge_agent.policy.kube.fields import at, items, key_of, mapping, quantity, text, told, whole


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("8", 8),
        (8, 8),
        ("0", 0),
        ("500m", Decimal("0.5")),
        ("2k", 2000),
        ("1.5Gi", 3 * 512 * 1024 * 1024),
        ("40Gi", 40 << 30),
        ("81559Mi", 81559 << 20),
        ("1E", 10**18),
        ("1e3", 1000),
        ("12E2", 1200),
        ("", 0),
        ("Gi", 0),
        ("many", 0),
        ("NaN", 0),
        ("Infinity", 0),
        (None, 0),
        ([], 0),
    ],
)
def test_quantities(written: Any, number: Any) -> None:
    assert quantity(written) == number


def test_whole_numbers_are_rounded_down_and_never_negative() -> None:
    assert (whole("1500m"), whole("-3"), whole(True), whole("7")) == (1, 0, 1, 7)


def test_what_is_absent_or_of_another_type_reads_as_empty() -> None:
    obj = {"spec": {"taints": [{"key": "a"}, None, "b"], "nodeName": 7, "labels": []}}
    assert at(obj, "spec", "nodeName") == 7
    assert text(obj, "spec", "nodeName") == ""
    assert items(obj, "spec", "taints") == [{"key": "a"}]
    assert mapping(obj, "spec", "labels") == {}
    assert at(obj, "spec", "taints", "x") is None
    assert items(obj, "status", "conditions") == ()


def test_keys() -> None:
    assert key_of({"metadata": {"namespace": "ml", "name": "p"}}) == ("ml", "p")
    assert key_of({"metadata": {"name": "n1"}}) == ("", "n1")
    assert key_of({}) == ("", "")


def test_reasons_are_told_once_and_briefly() -> None:
    assert told(["cordoned", "", "not ready", "cordoned"]) == "cordoned; not ready"
    long = told(f"tainted a-rather-long-key/of-number-{n}:NoSchedule" for n in range(100))
    assert len(long) <= 400
    assert long.endswith(" …")
