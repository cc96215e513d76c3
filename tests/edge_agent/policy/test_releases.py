"""The attack classes of The Update Framework (TUF 1.0, section 1.5.2), each against `admit`.

Those that need a network (endless data, slow retrieval, malicious mirrors) are in
tests/edge_agent/sync/test_transfer.py; extraneous files in test_staging.py.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.releases import (
    Floors,
    Publishers,
    Signing,
    Wanted,
    admit,
    parse_publishers,
)
from federation.contract.errors import Invalid
from federation.contract.release import Release

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WANTED = Wanted(model="m", version=3, digest="ab" * 32, size=10)
RELEASE = Release(model="m", manifest="ab" * 32, size=10, sequence=100, created=1)
FED, OWNER = "f" * 64, "0" * 64


def admitted(
    release: Release = RELEASE,
    *,
    signed_by: tuple[str, ...] = (FED,),
    trusted: tuple[str, ...] = (FED, OWNER),
    demanded: tuple[str, ...] = (),
    floors: Floors | None = None,
) -> Floors:
    return admit(
        release,
        Signing(
            signers=frozenset(signed_by), trusted=frozenset(trusted), demanded=frozenset(demanded)
        ),
        WANTED,
        floors=floors or Floors(),
        now=NOW,
    )


def test_a_good_release_is_admitted_and_changes_no_floor() -> None:
    assert admitted().of("m", (FED,)) == 0


def test_arbitrary_software_nobody_trusted_signed_it() -> None:
    with pytest.raises(Invalid, match="no key that this cluster trusts"):
        admitted(signed_by=())


def test_a_publisher_that_the_operator_demands_must_have_signed() -> None:
    with pytest.raises(Invalid, match="none of the publishers"):
        admitted(demanded=(OWNER,))
    admitted(signed_by=(FED, OWNER), demanded=(OWNER,))


def test_rollback_a_withdrawn_release_never_comes_back() -> None:
    floors = admitted(replace(RELEASE, sequence=200, floor=150))
    assert floors.of("m", (FED,)) == 150
    with pytest.raises(Invalid, match="withdrawn"):
        admitted(floors=floors)
    with pytest.raises(Invalid, match="withdrawn"):  # also if the one that set it did not sign
        admitted(signed_by=(OWNER,), floors=floors)
    with pytest.raises(Invalid, match="withdrawn"):  # nor if its own release is below its floor
        admitted(replace(RELEASE, floor=101))
    admitted(replace(RELEASE, sequence=150), floors=floors)  # an older one above the floor may


def test_freeze_an_expired_release_makes_no_new_copies() -> None:
    admitted(replace(RELEASE, expires=int(NOW.timestamp()) + 1))
    with pytest.raises(Invalid, match="expired at 2026-01-01"):
        admitted(replace(RELEASE, expires=int(NOW.timestamp())))


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"manifest": "cd" * 32}, {"size": 11}, {"size": 9}]
)
def test_mix_and_match_and_wrong_software_another_target_is_refused(
    other: dict[str, object],
) -> None:
    with pytest.raises(Invalid, match="speaks of"):
        admitted(replace(RELEASE, **other))  # type: ignore[arg-type]


def test_fast_forward_a_stolen_keys_floor_ends_with_the_key() -> None:
    stolen = admitted(replace(RELEASE, sequence=2**60, floor=2**60), signed_by=(OWNER,))
    with pytest.raises(Invalid, match="withdrawn"):
        admitted(signed_by=(OWNER,), floors=stolen)
    admitted(trusted=(FED,), floors=stolen)  # the key is trusted no more: its floor is void


def test_key_compromise_a_key_that_is_not_trusted_any_more_signs_nothing() -> None:
    with pytest.raises(Invalid, match="no key"):
        admitted(signed_by=())


@given(st.lists(st.tuples(st.sampled_from([FED, OWNER]), st.integers(0, 9)), max_size=8))
def test_floors_only_rise(steps: list[tuple[str, int]]) -> None:
    floors = Floors()
    for key, floor in steps:
        before = {k: floors.of("m", (k,)) for k in (FED, OWNER)}
        floors = floors.raised("m", (key,), floor)
        for k in (FED, OWNER):
            assert floors.of("m", (k,)) == max(before[k], floor if k == key else 0)
    assert floors.of("other", (FED, OWNER)) == 0


def test_publishers_are_read_by_pattern() -> None:
    publishers = parse_publishers(f"# ours\nllama-* {OWNER}\n* {FED.upper()} # all\n\n", "x")
    assert publishers.of("llama-7") == {OWNER, FED}
    assert publishers.of("m") == {FED}
    assert Publishers().of("m") == frozenset()
    for bad in ("m", f"m {OWNER} more", "m 123"):
        with pytest.raises(Invalid, match="x line 2"):
            parse_publishers(f"\n{bad}", "x")
