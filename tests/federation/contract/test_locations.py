"""Places and frames come back; what is cut or points nowhere is refused."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.locations import (
    BASE_BYTES,
    FRAME_BYTES,
    RAW,
    WITH_BASE,
    Frame,
    Locations,
    PackSource,
    Place,
    bases_of,
    pack_places,
    parse_locations,
    places_of,
    unpack_frame,
)

U32 = st.integers(0, 2**32 - 1)
PACKS = (PackSource(id="a", url="/packs/a"), PackSource(id="b", url="https://x/b?sig=1"))


@given(st.lists(st.tuples(st.integers(0, 1), U32, U32, st.integers(0, 255))))
def test_places_round_trip(raw: list[tuple[int, int, int, int]]) -> None:
    places = [Place(*values) for values in raw]
    packed = pack_places(places)
    assert len(packed) == 13 * len(places)
    assert list(places_of(Locations(packs=PACKS, places=packed))) == places


def test_the_document_round_trips() -> None:
    sound = Locations(
        packs=PACKS,
        places=pack_places([Place(0, 5, 7), Place(1, 0, 9, 0x82)]),
        bases={1: "ab" * 32},
        good_for_s=900.0,
    )
    assert parse_locations(msgspec.json.encode(sound)) == sound


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"packs": [], "places": 5}', b'{"packs": [{}], "places": ""}', b'"\xff"'],
)
def test_malformed_documents(data: bytes) -> None:
    with pytest.raises(Invalid, match="malformed"):
        parse_locations(data)


def test_bases_have_places_in_the_order_of_their_chunks() -> None:
    one, two = Place(0, 5, 7), Place(1, 0, 9)
    sound = Locations(
        packs=PACKS,
        places=pack_places([one] * 8),
        bases={7: "ab" * 32, 1: "cd" * 32},
        base_places=pack_places([one, two]),
    )
    assert bases_of(sound) == {b"\xcd" * 32: one, b"\xab" * 32: two}
    assert parse_locations(msgspec.json.encode(sound)) == sound
    for wrong in (
        replace(sound, base_places=b""),
        replace(sound, bases={}),
        replace(sound, places=pack_places([one] * 7)),
        replace(sound, bases={7: "ab" * 31, 1: "cd" * 32}),
        replace(sound, packs=PACKS[:1]),
    ):
        with pytest.raises(Invalid):
            bases_of(wrong)


def test_places_that_cannot_be() -> None:
    sound = pack_places([Place(1, 2, 3)])
    with pytest.raises(Invalid, match="malformed"):
        list(places_of(Locations(packs=PACKS, places=sound[:-1])))
    with pytest.raises(Invalid, match="not listed"):
        list(places_of(Locations(packs=PACKS[:1], places=sound)))


@given(st.binary(min_size=32, max_size=32), U32, U32, st.integers(0, 255))
def test_frames_round_trip(digest: bytes, length: int, stored: int, code: int) -> None:
    frame = Frame(digest=digest, length=length, stored=stored, code=code)
    assert len(frame.pack()) == FRAME_BYTES
    assert unpack_frame(frame.pack()) == frame


def test_a_base_follows_the_head() -> None:
    base = b"b" * BASE_BYTES
    frame = Frame(digest=b"d" * 32, length=9, stored=5, code=WITH_BASE | 2, base=base)
    head = frame.pack()
    assert head[FRAME_BYTES:] == base
    assert unpack_frame(head[:FRAME_BYTES]).code & WITH_BASE
    assert Place(0, 0, 1).code == RAW
