import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.artifacts.index import ChunkIndex, Record, Spot, decode_index, encode_index
from federation.contract.errors import Invalid

numbers = st.integers(0, (1 << 32) - 1)
digests = st.binary(min_size=32, max_size=32)
plain = st.builds(Record, digests, numbers, numbers, numbers, st.integers(0, 0x7F))
with_base = st.builds(
    Record, digests, numbers, numbers, numbers, st.integers(0x80, 0xFF), base=digests
)
records = st.lists(plain | with_base, max_size=20)


@settings(deadline=None, max_examples=50)
@given(records)
def test_an_index_is_read_as_it_was_written(rows: list[Record]) -> None:
    assert decode_index(encode_index(rows)) == rows


@settings(deadline=None, max_examples=50)
@given(records, st.data())
def test_an_index_that_was_cut_or_changed_is_refused(
    rows: list[Record], data: st.DataObject
) -> None:
    whole = encode_index(rows)
    at = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (
        whole[:at],
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        whole + b"x",
    ):
        with pytest.raises(Invalid):
            decode_index(damaged)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300))
def test_nonsense_with_a_good_checksum_is_refused(data: bytes) -> None:
    body = b"FPX1" + data
    try:
        rows = decode_index(body + blake3(body).digest())
    except Invalid:
        return
    assert encode_index(rows)[:-32] == body


# Few values, so that keys meet in one bucket and inside each other's rows.
close = st.binary(min_size=32, max_size=32).map(lambda b: bytes(x & 1 for x in b[:30]) + b"\0\0")
spots = st.builds(Spot, *[st.integers(0, 2)] * 4, st.integers(0, 2))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["put", "put", "discard"]), digests | close, spots)))
def test_the_table_behaves_as_a_dict(steps: list[tuple[str, bytes, Spot]]) -> None:
    table, model = ChunkIndex(), dict[bytes, Spot]()
    for what, digest, spot in steps:
        if what == "put":
            table.put(digest, spot)
            model[digest] = spot
        else:
            table.discard(digest)
            model.pop(digest, None)
        assert len(table) == len(model)
    for _, digest, _ in steps:
        assert table.get(digest) == model.get(digest)
    assert sorted(table) == sorted(model)


def test_a_key_inside_other_rows_is_not_mistaken_for_a_row() -> None:
    table = ChunkIndex()
    spot = Spot(0, 0, 0, 0, 0)
    table.put(bytes(32), spot)  # all zeros: its row is 47 zeros
    table.put(bytes(31) + b"\1", spot)
    assert table.get(bytes(32)) == spot
    table.discard(bytes(32))
    assert table.get(bytes(32)) is None
    assert table.get(bytes(31) + b"\1") == spot
