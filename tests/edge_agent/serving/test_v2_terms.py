"""Values of a sample become the bytes that NumPy would make of them, without it."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.v2 import DTYPES, array_from_json, to_bytes
from edge_agent.serving.v2_terms import BadRequest, pack_values, parse_object, prefixed

INTEGERS = {name: np.iinfo(kind) for name, kind in DTYPES.items() if "INT" in name}


@given(st.data(), st.sampled_from(sorted(INTEGERS)))
def test_integers_are_packed_as_arrays_are(data: st.DataObject, datatype: str) -> None:
    limits = INTEGERS[datatype]
    values = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1))
    assert pack_values(values, "x", datatype) == np.array(values, DTYPES[datatype]).tobytes()


@given(st.lists(st.floats(-60000, 60000) | st.integers(-9, 9), min_size=1))
def test_floats_are_packed_as_arrays_are(values: list[float]) -> None:
    for datatype in ("FP16", "FP32", "FP64"):
        expected = to_bytes(array_from_json(values, "x", datatype), datatype)
        assert pack_values(values, "x", datatype) == expected


def test_flags_and_words() -> None:
    assert pack_values([True, False], "x", "BOOL") == b"\1\0"
    assert pack_values(["a", "ö"], "x", "BYTES") == prefixed(b"a") + prefixed("ö".encode())
    assert pack_values([], "x", "INT8") == b""


@pytest.mark.parametrize(
    ("values", "datatype", "told"),
    [
        ([1.5], "INT32", "are not all INT32 values"),
        ([True], "FP32", "are not all FP32 values"),
        ([None], "FP32", "are not all FP32 values"),
        ([300], "UINT8", "out of the range of UINT8"),
        ([1e39], "FP32", "out of the range of FP32"),
        ([1e6], "FP16", "out of the range of FP16"),
        ([1], "BYTES", "must be strings"),
        ([1], "FP8", "unknown datatype"),
    ],
)
def test_what_does_not_fit_is_refused(values: list[object], datatype: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        pack_values(values, "x", datatype)


def test_a_body_that_is_no_object_is_refused() -> None:
    assert parse_object(b'{"a": 1}') == {"a": 1}
    for body in (b"[]", b"{", b"[" * 100_000):
        with pytest.raises(BadRequest):
            parse_object(body)


def test_an_agent_needs_no_tensors() -> None:
    """NumPy would take 11 MB of each agent."""
    program = "import edge_agent.app, sys; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
