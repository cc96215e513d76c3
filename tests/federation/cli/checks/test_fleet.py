from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from federation.cli.checks import fleet
from federation.cli.checks.finding import Verdict

_NOW = datetime(2026, 5, 1, tzinfo=UTC)
_MEMBER = {"joined": True, "accepted": True, "revoked": False}


def _document(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {**_MEMBER, **status}}


@pytest.mark.parametrize(
    ("status", "verdict", "word"),
    [
        ({"ready": True}, Verdict.OK, "1 of 1"),
        ({"ready": False, "reason": "no report"}, Verdict.FAILED, "no report"),
        ({"revoked": True}, Verdict.WARNING, "revoked"),
        ({"joined": False}, Verdict.WARNING, "never joined"),
        ({"accepted": False}, Verdict.WARNING, "accepted"),
    ],
)
def test_each_cluster_has_its_own_words(
    status: dict[str, Any], verdict: Verdict, word: str
) -> None:
    (finding,) = fleet.clusters([_document("eu", **status)])
    assert finding.verdict is verdict
    assert word in finding.seen


def test_routers_must_be_there_connected_and_on_one_snapshot() -> None:
    def verdicts(*documents: dict[str, Any]) -> list[Verdict]:
        return [finding.verdict for finding in fleet.routers(documents)]

    good = _document("a", connected=True, snapshot_version=7)
    assert verdicts() == [Verdict.FAILED]
    assert verdicts(good) == [Verdict.OK]
    assert verdicts(good, _document("b", connected=False)) == [Verdict.FAILED]
    assert verdicts(good, _document("b", connected=True, snapshot_version=6)) == [Verdict.WARNING]
    refused = _document("b", connected=True, snapshot_version=7, rejection="odd")
    assert verdicts(good, refused) == [Verdict.FAILED]


def test_versions_that_differ_are_told() -> None:
    router = _document("a", software_version="0.2")
    assert fleet.versions("0.1", "0.1", []).verdict is Verdict.OK
    finding = fleet.versions("0.1", "0.1", [router])
    assert finding.verdict is Verdict.WARNING
    assert "0.2" in finding.seen


def test_keys_should_end_and_not_have_ended() -> None:
    def key(name: str, until: datetime | None) -> dict[str, Any]:
        text = until.isoformat() if until else None
        return {"metadata": {"name": name}, "spec": {}, "status": {"expires_at": text}}

    soon, gone = _NOW + timedelta(days=1), _NOW - timedelta(days=1)
    assert fleet.keys([key("a", soon)], _NOW).verdict is Verdict.OK
    assert "never expire: b" in fleet.keys([key("a", soon), key("b", None)], _NOW).seen
    assert "expired: c" in fleet.keys([key("b", None), key("c", gone)], _NOW).seen


def test_roots_must_last() -> None:
    def document(*days: int) -> dict[str, Any]:
        ends = [(_NOW + timedelta(days=d)).isoformat() for d in days]
        return {"roots": [{"notAfter": end} for end in ends]}

    assert fleet.roots(document(30, 3000), _NOW).verdict is Verdict.OK
    assert fleet.roots(document(30), _NOW).verdict is Verdict.FAILED
    assert fleet.roots(document(), _NOW).verdict is Verdict.WARNING
