"""Engine-side names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.backends.base import engine_name, parse_engine_name
from federation.contract.errors import Invalid
from federation.contract.names import check_model_name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.integers(0, 10**9))
def test_names_come_back(model: str, version: int) -> None:
    try:
        check_model_name(model)
    except Invalid:
        return
    assert parse_engine_name(engine_name(model, version)) == (model, version)


@pytest.mark.parametrize("name", ["", "m", "--v1", "m--v", "m--vx", "m--v-1", "m-v1"])
def test_names_of_others_are_not_ours(name: str) -> None:
    assert parse_engine_name(name) is None
