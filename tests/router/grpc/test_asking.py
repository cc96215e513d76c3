import pytest

from federation.contract.errors import Invalid, NotFound
from federation.relay.h2.blocks import Huffman, walk
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import Named
from federation.relay.h2.start import Start
from router.grpc import asking


def head(**noted: bytes) -> RequestHead:
    found = {name.replace("_", "-").encode(): (value,) for name, value in noted.items()}
    return RequestHead(path=b"/a/B", block=b"", noted=found)


def start(message: bytes, *, whole: bool = True, ended: bool = True) -> Start:
    return Start(message=message, size=len(message), whole=whole, ended=ended)


def test_request_ids() -> None:
    ids = asking.Ids()

    def one(given: RequestHead) -> tuple[bytes, bytes]:
        (field,) = walk(ids.field_of(given), Huffman())
        return field.name, field.value

    assert one(head(x_request_id=b"mine-1")) == (b"x-request-id", b"mine-1")
    assert one(head(x_request_id=b"m" * 128)) == (b"x-request-id", b"m" * 128)
    made = {one(head(x_request_id=b"not sane\n")), *(one(head()) for _ in range(300))}
    assert len(made) == 301
    assert {(name, len(value)) for name, value in made} == {(b"x-request-id", 32)}


@pytest.mark.parametrize("size", [1, 126, 127, 128])
def test_a_request_id_is_read_back(size: int) -> None:
    given = head(x_request_id=b"m" * size)
    assert asking.id_of(asking.Ids().field_of(given)) == "m" * size
    made = asking.Ids().field_of(head())
    assert asking.id_of(made).encode() == made[-32:]


def test_deadlines() -> None:
    assert asking.deadline_s(head()) is None
    assert asking.deadline_s(head(x_fed_deadline_ms=b"1500")) == 1.5
    for text in (b"0", b"x", b"9999999999", b"-1"):
        with pytest.raises(Invalid):
            asking.deadline_s(head(x_fed_deadline_ms=text))
    assert asking.least(None, 2.0, 1.0) == 1.0
    assert asking.least(None) is None


def test_names() -> None:
    assert asking.named_in(start(b"\x0a\x01m")) == Named("m", "")
    assert asking.named_in(start(b"", whole=False, ended=False)) is None
    with pytest.raises(Invalid, match="names no model"):
        asking.named_in(start(b"\x1a\x01i"))
    with pytest.raises(Invalid, match="no message"):
        asking.named_in(Start(message=b"", size=0, whole=True, ended=True))
    with pytest.raises(Invalid, match="breaks off"):
        asking.named_in(Start(message=b"\x0a", size=9, whole=False, ended=True))


@pytest.mark.parametrize("name", ["", "a--v1", "a..b", "../a", "a@b@c", "é", "a" * 64])
def test_what_cannot_name_a_model(name: str) -> None:
    with pytest.raises(NotFound):
        asking.check_reference(name)


def test_versions() -> None:
    asking.check_reference("m@champion")
    assert asking.version_of(Named("m", "")) is None
    assert asking.version_of(Named("m", "12")) == 12
    for text in ("champion", "-1", "1" * 10, "²"):
        with pytest.raises(NotFound):
            asking.version_of(Named("m", text))


def test_sequences() -> None:
    assert asking.in_sequence(start(b"\x0a\x01m\x22\x0fsequence_id"))
    assert not asking.in_sequence(start(b"\x0a\x01m"))
