from datetime import UTC, datetime, timedelta

import pytest

from federation.artifacts.catalog import TOUCH_STEP, Catalog, Pack
from federation.artifacts.index import Record
from federation.contract.errors import NotFound
from federation.contract.locations import WITH_BASE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
X, Y, Z = (bytes([n]) * 32 for n in range(3))


def pack(name: str, *, recalled: bool = False) -> Pack:
    return Pack(name, 100, NOW, touched_at=NOW, noted_at=NOW, recalled=recalled)


def record(digest: bytes, offset: int = 0, base: bytes = b"") -> Record:
    return Record(digest, offset, 10, 10, 0x82 if base else 0, base)


def test_a_chunk_stays_where_it_was_first_unless_told_otherwise() -> None:
    catalog = Catalog()
    first = catalog.add(pack("one"), [record(X), record(Y, 10)])
    second = catalog.add(pack("two"), [record(X)])
    assert catalog.spot(X).pack == first
    catalog.add(pack("two"), [record(X)], over=True)
    assert catalog.spot(X).pack == second
    catalog.remove(first, [record(X), record(Y, 10)])
    assert catalog.spot(X).pack == second
    assert catalog.find(Y) is None
    with pytest.raises(NotFound, match=Y.hex()):
        catalog.spot(Y)
    with pytest.raises(NotFound, match="one"):
        catalog.pack("one")
    assert catalog.number("one") is None


def test_a_number_is_never_used_twice() -> None:
    catalog = Catalog()
    first = catalog.add(pack("one"), [])
    catalog.remove(first, [])
    assert catalog.add(pack("one"), []) != first


def test_bases_come_and_go_with_their_chunks() -> None:
    catalog = Catalog()
    number = catalog.add(pack("one"), [record(X), record(Y, 10, base=X)])
    assert catalog.base(Y) == X
    assert catalog.base(X) == b""
    assert catalog.spot(Y).code & WITH_BASE
    catalog.add(pack("two"), [record(Y)], over=True)  # the same chunk, now whole
    assert catalog.base(Y) == b""
    catalog.forget(number, [X])
    assert catalog.find(X) is None
    assert catalog.find(Y) is not None


def test_what_leans_on_a_chunk_goes_with_it() -> None:
    catalog = Catalog()
    first = catalog.add(pack("one"), [record(X)])
    second = catalog.add(pack("two"), [record(Y, base=X)])
    assert catalog.packs_of(Y) == {first, second}
    assert (catalog.packs_of(X), catalog.packs_of(Z)) == ({first}, set())
    catalog.remove(first, [record(X)])
    assert (catalog.find(Y), catalog.packs_of(Y)) == (None, set())


def test_packs_may_come_in_any_order() -> None:
    catalog = Catalog()
    catalog.add(pack("two"), [record(Y, base=X), record(Z, 10, base=b"lost" * 8)])
    catalog.add(pack("one"), [record(X)])
    catalog.forget_leaning()
    assert catalog.find(Y) is not None
    assert catalog.find(Z) is None


def test_touches_are_due_once_an_hour() -> None:
    catalog = Catalog()
    number = catalog.add(pack("one"), [])
    catalog.touch([number], NOW + TOUCH_STEP)
    assert not catalog.unnoted([number])
    later = NOW + TOUCH_STEP * 1.5
    catalog.touch([number], later)
    assert catalog.unnoted([number, 99])
    touches = catalog.touches(later)
    assert touches == {"one": int(later.timestamp())}
    catalog.noted({**touches, "gone": 5})
    assert not catalog.unnoted([number])
    catalog.touch([number], NOW)  # never back
    assert catalog.needed_since(number, later - timedelta(seconds=1), grace=DAY)


def test_what_was_touched_long_ago_is_not_written_down() -> None:
    catalog = Catalog()
    number = catalog.add(pack("one"), [])
    catalog.touch([number], NOW + DAY)
    assert catalog.touches(NOW + 40 * DAY) == {}


def test_a_recalled_time_may_be_late_by_a_step_but_never_by_more_than_the_grace() -> None:
    catalog = Catalog()
    own = catalog.add(pack("own"), [])
    recalled = catalog.add(pack("recalled", recalled=True), [])
    soon = NOW + TOUCH_STEP / 2
    assert not catalog.needed_since(own, soon, grace=DAY)
    assert catalog.needed_since(recalled, soon, grace=DAY)
    assert not catalog.needed_since(recalled, soon, grace=timedelta())
