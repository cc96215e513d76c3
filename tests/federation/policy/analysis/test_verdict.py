"""Verdicts say what they are."""

from federation.policy.analysis.verdict import Outcome, Reason, Verdict


def test_only_a_pass_passed() -> None:
    for outcome in Outcome:
        verdict = Verdict(outcome=outcome, reason=Reason.UNSURE, words="")
        assert verdict.passed == (outcome is Outcome.PASSED)
        assert verdict.failed == (outcome is Outcome.FAILED)
