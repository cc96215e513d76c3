import pytest

from federation.policy.membership.records import Membership


@pytest.mark.parametrize(
    ("membership", "valid"),
    [
        (Membership(), False),
        (Membership(generation=1), True),
        (Membership(generation=1, accepted=False), False),
        (Membership(generation=1, revoked=True), False),
    ],
)
def test_when_a_membership_counts(membership: Membership, valid: bool) -> None:
    assert membership.valid is valid
