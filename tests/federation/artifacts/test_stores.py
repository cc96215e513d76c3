import sys
from pathlib import Path

import pytest

from federation.artifacts.objects_bucket import BucketObjects
from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.stores import open_objects
from federation.contract.errors import Invalid


def test_a_path_and_a_file_url_are_a_directory(tmp_path: Path) -> None:
    for address in (str(tmp_path / "a"), (tmp_path / "b c").as_uri()):
        assert isinstance(open_objects(address), LocalObjects)
    assert (tmp_path / "a" / "incoming").is_dir()
    assert (tmp_path / "b c" / "incoming").is_dir()


def test_a_bucket_is_a_bucket() -> None:
    address = "s3://models/x?endpoint=http://127.0.0.1:9&region=eu"
    store = open_objects(address)
    assert isinstance(store, BucketObjects)
    assert repr(store) == "BucketObjects(s3://models/x)"


@pytest.mark.parametrize("address", ["", "ftp://x", "file://host/x", "file:relative://", "s3://x"])
def test_nonsense_is_refused(address: str) -> None:
    with pytest.raises(Invalid):
        open_objects(address)


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "federation.artifacts.objects_bucket", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(Invalid, match="not installed") as raised:
        open_objects("s3://models")
    assert raised.value.hint == 'pip install "inference-federation[bucket]"'
