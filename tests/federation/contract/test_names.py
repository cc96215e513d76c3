"""Names are checked strictly, and a typo is answered with what was perhaps meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.names import (
    check_model_name,
    check_name,
    did_you_mean,
    near_misses,
    split_reference,
)


@pytest.mark.parametrize("name", ["a", "eu-west-1", "0", "a" * 63])
def test_good_names(name: str) -> None:
    assert check_name("cluster", name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "ä", "a\n", "a/b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a cluster"):
        check_name("cluster", name)


@pytest.mark.parametrize("name", ["filetype", "Llama-3.1_8B", "a" * 63])
def test_good_model_names(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "a--v1", "a/b", "a@1", ".a", "a b", "a\x00"]
)
def test_bad_model_names(name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a model"):
        check_model_name(name)


@given(st.text(max_size=80))
def test_an_accepted_model_name_is_one_path_segment(name: str) -> None:
    try:
        check_model_name(name)
    except Invalid:
        return
    assert name.isascii()
    assert not set(name) & set("/\\\x00% @")
    assert name not in (".", "..")


def test_references() -> None:
    assert split_reference("filetype") == ("filetype", "")
    assert split_reference("filetype@champion") == ("filetype", "champion")


def test_near_misses_best_first() -> None:
    assert near_misses("filetpye", ["shakespeare", "filetype"]) == ["filetype"]


def test_did_you_mean_always_says_something() -> None:
    assert did_you_mean("eu-wst", ["eu-west", "ap-south"]) == "Did you mean 'eu-west'?"
    assert did_you_mean("zzz", ["b", "a"]) == "There are: a, b."
    assert did_you_mean("zzz", []) == "There are none yet."
