import pytest

from federation.artifacts.base import check_digest, check_key
from federation.contract.errors import Invalid


def test_a_digest_is_returned_as_it_is() -> None:
    assert check_digest("0a" * 32) == "0a" * 32


def test_the_refusal_of_a_long_text_is_short() -> None:
    for check in (check_digest, check_key):
        with pytest.raises(Invalid) as raised:
            check("x" * 10_000)
        assert len(raised.value.sentence()) < 200


@pytest.mark.parametrize("key", ["touches", "packs/ab", f"packs/{'a' * 64}.index"])
def test_a_key_is_returned_as_it_is(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "..", "a/..", "a/../b", "/a", "a/", "A/b", "incoming/a", "a\n"]
)
def test_what_could_lead_outside_is_no_key(key: str) -> None:
    with pytest.raises(Invalid):
        check_key(key)
