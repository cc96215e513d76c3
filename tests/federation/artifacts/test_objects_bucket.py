"""What only a bucket has; the contract is in test_object_stores.py."""

import socket
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from federation.artifacts import objects_bucket
from federation.artifacts.objects_bucket import BucketObjects
from federation.artifacts.packs import PackStore
from federation.contract.errors import Exhausted, Invalid, Unavailable
from federation.runtime.clock import SystemClock
from tests.federation.artifacts.servers import S3Server

pytestmark = pytest.mark.usefixtures("s3_credentials")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket at a server that is not there."""
    monkeypatch.setitem(objects_bucket._RETRY, "max_retries", 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"s3://models/x?endpoint=http://127.0.0.1:{port}&region=eu"


async def test_a_server_that_is_away_is_unavailable(nobody: str) -> None:
    store = BucketObjects(nobody)
    writer = store.writer()
    await writer.write(b"x" * (9 << 20))
    for attempt in (
        store.put("packs/ab", b"x"),
        store.replace("packs/ab", b"x"),
        store.size("packs/ab"),
        store.delete("packs/ab"),
        anext(aiter(store.read("packs/ab"))),
        anext(aiter(store.list("packs/"))),
        writer.commit("packs/ab"),
        PackStore.open(store, clock=SystemClock()),
    ):
        with pytest.raises(Unavailable, match="bucket failed") as raised:
            await attempt
        assert "\n" not in raised.value.sentence()


async def test_wrong_credentials_are_named_as_the_cause(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unavailable, match="refuses us") as raised:
        await BucketObjects(s3_server.address()).put("packs/ab", b"x")
    assert "credentials" in raised.value.hint
    assert "wrong" not in raised.value.sentence()


def test_a_bucket_that_is_full_or_busy_exhausts() -> None:
    for said in ("XMinioStorageFull", "status 507 Insufficient", "<Code>SlowDown</Code>"):
        assert isinstance(objects_bucket._failure(OSError(said)), Exhausted)
    assert isinstance(objects_bucket._failure(OSError("status 500")), Unavailable)


def test_azure_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(Invalid, match=r"[Aa]ccount"):
        BucketObjects("az://models")
    assert repr(BucketObjects("az://models/x?account=me")) == "BucketObjects(az://models/x)"
    assert repr(BucketObjects("gs://models/x")) == "BucketObjects(gs://models/x)"


async def test_urls_may_be_signed_for_another_address_of_the_bucket(nobody: str) -> None:
    store = BucketObjects(f"{nobody}&public_endpoint=https://cdn.example.org")
    url = await store.signed_url("packs/ab", timedelta(hours=1))
    assert url is not None
    assert urlsplit(url).netloc == "cdn.example.org"
    assert "X-Amz-Expires=3600" in url
    for lifetime in (timedelta(), timedelta(days=8)):
        with pytest.raises(Invalid):
            await store.signed_url("packs/ab", lifetime)
