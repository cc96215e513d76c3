from dataclasses import replace
from typing import Any

import pytest

from federation.contract.errors import NotFound
from federation.contract.types import Endpoint, ModelRoute
from federation.runtime.clock import ManualClock
from router.policy.decision import Reason
from router.policy.hedging import Hedged, Outcome
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Ending, Signals
from router.policy.table import Resolved
from router.records import Records

RESOLVED = Resolved(route=ModelRoute(name="digits", default_version=2), version=2)


def only(records: object) -> dict[str, Any]:
    assert isinstance(records, list)
    (record,) = records
    assert isinstance(record, dict)
    return record


def option(cluster: str) -> Option:
    endpoint = Endpoint(cluster=cluster, region=cluster[:2], url="http://h:1")
    return Option(endpoint, Signals().lane(cluster, "digits", 2), 1.0, 0)


def keep(records: Records, request_id: str, at_s: float = 0.0, *, status: int = 200) -> None:
    chosen, other = option("eu-1"), option("us-1")
    records.keep(
        (
            *(request_id, at_s + 0.25, at_s, ("192.0.2.1", (), "acme"), RESOLVED, chosen),
            *(Reason.NEAREST, [(88.0, other), (12.345, chosen)], status, ()),
        )
    )


def test_it_tells_what_became_of_a_request() -> None:
    records, clock = Records(), ManualClock()
    keep(records, "abc", clock.monotonic_s() - 10.25)
    told = records.tell("abc", "r1", clock)
    assert (told["router"], told["request_id"]) == ("r1", "abc")
    assert told["why"] == (
        "eu-1 was chosen: it was near the least expected time, and the nearest; "
        "answered 200 after 250.0 ms."
    )
    record = only(told["records"])
    assert record["scores"] == [
        {"cluster": "eu-1", "region": "eu", "score_ms": 12.3},
        {"cluster": "us-1", "region": "us", "score_ms": 88.0},
    ]
    assert (record["model"], record["version"], record["chosen"]) == ("digits", 2, "eu-1")
    assert (record["client"], record["tenant"], record["took_ms"]) == ("192.0.2.1", "acme", 250.0)


def test_a_second_cluster_that_was_asked_is_told() -> None:
    records, clock = Records(), ManualClock()
    chosen, hedged = option("eu-1"), Hedged(first="eu-1", second="us-1", after_s=0.0521)
    for name, outcome in (("a", Outcome.WON), ("b", Outcome.BOTH_FAILED)):
        story = replace(hedged, outcome=outcome)
        records.keep(
            (
                *(name, 0.25, 0.0, ("192.0.2.1", (), "acme"), RESOLVED, chosen),
                *(Reason.NEAREST, [], 200, (), story),
            )
        )
    told = only(records.tell("a", "r1", clock)["records"])
    assert told["hedged"] == {
        "first": "eu-1",
        "second": "us-1",
        "after_ms": 52.1,
        "outcome": "won",
    }
    assert told["why"].startswith(
        "eu-1 had not answered after 52.1 ms, so us-1 was asked too: it answered first. eu-1 was"
    )
    assert "asked too: both failed." in str(records.tell("b", "r1", clock)["why"])
    keep(records, "plain")
    assert only(records.tell("plain", "r1", clock)["records"])["hedged"] is None


def test_what_failed_before_and_what_never_left_are_told() -> None:
    records, clock = Records(), ManualClock()
    failed = [Failed(cluster="eu-2", ending=Ending.BROKEN, reason="reset")]
    records.keep(("x", 1.0, 0.0, ("", (), ""), RESOLVED, None, Reason.FULL, (), 429, failed))
    records.keep(("y", 1.0, 0.0, ("", (), ""), None, None, None, (), 404, ()))
    assert str(records.tell("x", "r", clock)["why"]).startswith(
        "eu-2 failed (reset). No cluster was asked: everything was full; answered 429"
    )
    assert "it came to no choice; answered 404" in str(records.tell("y", "r", clock)["why"])


def test_the_last_ones_only_and_the_newest_first() -> None:
    records, clock = Records(20), ManualClock()
    for number in range(30):
        keep(records, f"id-{number % 2}", float(number), status=200 + number)
    assert len(records) == 20
    assert [r.status for r in records.of("id-1")] == [229, 227, 225, 223, 221, 219, 217, 215]
    keep(records, "once")
    for _ in range(20):
        keep(records, "other")
    with pytest.raises(NotFound, match="remembers no request 'once'"):
        records.tell("once", "r", clock)


def test_none_are_kept_where_none_are_wanted() -> None:
    records = Records(0)
    keep(records, "abc")
    assert len(records) == 0
