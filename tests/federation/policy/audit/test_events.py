from federation.policy.audit.events import INSIDE, AccessDenied, Origin


def test_what_nobody_asked_for_comes_from_nowhere() -> None:
    assert Origin(source="", request_id="") == INSIDE


def test_one_denial_counts_as_one() -> None:
    denied = AccessDenied(actor="anonymous", target="GET /", reason="unknown", message="no.")
    assert denied.count == 1
