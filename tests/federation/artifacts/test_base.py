import pytest

from federation.artifacts.base import check_digest
from federation.contract.errors import Invalid


def test_a_digest_is_returned_as_it_is() -> None:
    assert check_digest("0a" * 32) == "0a" * 32


def test_the_refusal_of_a_long_text_is_short() -> None:
    with pytest.raises(Invalid) as raised:
        check_digest("x" * 10_000)
    assert len(raised.value.sentence()) < 200
