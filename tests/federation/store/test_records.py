import json

import pytest

from federation.contract.errors import Invalid
from federation.policy.records import RetiredModel
from federation.store.records import decode, encode


def test_a_field_of_a_newer_version_is_ignored() -> None:
    written = json.loads(encode(RetiredModel(name="m", last_version=2)))
    data = json.dumps({**written, "since": "2030"}).encode()
    assert decode("RetiredModel", data) == RetiredModel(name="m", last_version=2)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("RetiredModel", b"{", "RetiredModel that cannot be read"),
        ("RetiredModel", b'{"name": "m"}', "missing required field `last_version`"),
        ("Unheard", b"{}", "which this version does not know"),
    ],
)
def test_what_cannot_be_read_is_told(kind: str, data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        decode(kind, data)
