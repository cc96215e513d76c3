import pytest

from federation.relay.h2.blocks import Huffman, walk
from federation.relay.h2.heads import AnswerHead
from federation.relay.h2.status import Status
from router.grpc.telling import http_status, load_of, way


@pytest.mark.parametrize(
    ("text", "load"), [(b"7", 7), (b"", None), (b"-1", None), (b"9" * 7, None), (b"x", None)]
)
def test_loads(text: bytes, load: int | None) -> None:
    assert load_of(AnswerHead(block=b"", noted={b"x-fed-load": text})) == load


def test_the_way_is_told() -> None:
    found = {f.name: f.value for f in walk(way("eu", "eu-1", 2, 1), Huffman())}
    assert found == {
        b"x-fed-region": b"eu",
        b"x-fed-cluster": b"eu-1",
        b"x-fed-model-version": b"2",
        b"x-fed-attempts": b"1",
    }


def test_statuses_for_metrics() -> None:
    assert http_status(None) == 499
    assert http_status(Status.OK) == 200
    assert http_status(Status.INTERNAL) == http_status(Status.UNKNOWN) == 500
    assert {http_status(status) // 100 for status in Status} == {2, 4, 5}
