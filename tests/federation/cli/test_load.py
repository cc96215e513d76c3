from datetime import UTC, datetime

import pytest

from federation.cli import load

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, ""), (0, "0"), (3, "3"), (3.14, "3.1"), (9.96, "10"), (412.7, "413")],
)
def test_amounts(value: object, told: str) -> None:
    assert load.amount(value) == told


def test_shares_latencies_and_parts() -> None:
    assert (load.percent(0.257), load.percent(None)) == ("26%", "")
    assert [load.latency(ms) for ms in (0, None, 7.25, 90, 12_345)] == [
        "",
        "",
        "7.2ms",
        "90ms",
        "12.3s",
    ]
    assert (load.of(1, 2), load.of(None, 2)) == ("1/2", "")
    cell = load.gib("used", "whole")
    assert cell({"used": 512, "whole": 81_920}, NOW) == "0.5/80"
    assert cell({"used": None, "whole": 81_920}, NOW) == "?/80"
    assert cell({}, NOW) == ""


def test_why_a_cluster_is_not_as_it_should_be() -> None:
    old = {"type": "CapacityCurrent", "status": "False", "message": "75 s old"}
    status = {"ready": False, "reason": "no report", "conditions": [old]}
    assert load.condition_words({"status": status}) == "no report; 75 s old"
    assert load.condition_words({"status": {"ready": True, "conditions": []}}) == ""
