"""Objects in a bucket: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob.

Input: a URL, credentials from the environment (those of the vendors' own tools), keys, bytes.
Output: objects, and URLs signed for a while, by which agents fetch from the bucket itself.
`obstore` (the Rust crate object_store) does the work; it comes with the extra `bucket`.

    s3://BUCKET/PREFIX?endpoint=https://s3.example.org&region=eu-central-1
    gs://BUCKET/PREFIX
    az://CONTAINER/PREFIX?account=NAME

`public_endpoint` is the address by which agents reach the bucket if that differs; `signed=no` makes
them fetch through the control plane.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from federation.artifacts.base import ObjectInfo, check_key
from federation.artifacts.bucket_url import BucketUrl, parse_bucket_url
from federation.contract.errors import Exhausted, FederationError, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config

Bucket = S3Store | GCSStore | AzureStore

MAX_URL_LIFETIME = timedelta(days=7)  # of AWS's signature version 4; the others allow as much
# Measured: uploads through the control plane peak at 108 MB with 2 parts of 5 MiB (the least that
# S3 takes), at 164 MB with 4 of 8 MiB, equally fast on loopback.
_PART_BYTES = 5 << 20
_PARTS_AT_ONCE = 2
_BLOCK_BYTES = 1 << 20
_FULL = ("QuotaExceeded", "InsufficientStorage", "StorageFull", "AccountFull", "507 ")
_BUSY = ("SlowDown", "TooManyRequests", "429 ")
# Without bounds a server that answers 500 is asked for minutes. Parts are sent again one by one.
_RETRY: "RetryConfig" = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
_LIMITS: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),  # between two reads
    "timeout": timedelta(minutes=30),  # of a whole request: thin links are slow, not broken
}


class BucketObjects:
    """An ObjectStore in a bucket."""

    def __init__(self, url: str) -> None:
        """Take the bucket at `url`; raises Invalid. Nothing is asked of the bucket yet."""
        parsed = parse_bucket_url(url)
        self._url = parsed
        self._bucket = _bucket(parsed, parsed.endpoint)
        self._signer = _bucket(parsed, parsed.public_endpoint or parsed.endpoint)

    def __repr__(self) -> str:
        return f"BucketObjects({self._url})"

    def writer(self) -> "BucketWriter":
        """Begin an object; see ObjectStore."""
        return BucketWriter(self._bucket)

    async def put(self, key: str, data: bytes) -> bool:
        """Store a small object if its key is free; see ObjectStore."""
        with _told():
            return await _create(self._bucket, check_key(key), data)

    async def replace(self, key: str, data: bytes) -> None:
        """Store a small object in place of what is there; see ObjectStore."""
        with _told():
            await obstore.put_async(self._bucket, check_key(key), data, use_multipart=False)

    async def size(self, key: str) -> int:
        """Return the length in bytes; raises NotFound."""
        with _told(key):
            return (await obstore.head_async(self._bucket, check_key(key)))["size"]

    async def read(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start`; see ObjectStore."""
        if start > 0 or length is not None:
            # A range that begins at or after the end is an error to a bucket, and one that no two
            # of them word alike.
            size = await self.size(key)
            end = size if length is None else min(size, start + length)
            if start >= end:
                return
            with _told(key):
                answer = await obstore.get_async(self._bucket, key, options={"range": (start, end)})
        else:
            with _told(key):
                answer = await obstore.get_async(self._bucket, check_key(key))
        blocks = aiter(answer.stream(min_chunk_size=_BLOCK_BYTES))
        while True:
            with _told(key):
                block = await anext(blocks, None)
            if block is None:
                return
            yield bytes(block)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`."""
        folder = prefix.rpartition("/")[0]
        batches = aiter(obstore.list(self._bucket, folder or None, chunk_size=1000))
        while True:
            with _told():
                batch = await anext(batches, None)
            if batch is None:
                return
            for found in batch:
                if found["path"].startswith(prefix):
                    yield ObjectInfo(
                        key=found["path"], size=found["size"], modified_at=found["last_modified"]
                    )

    async def delete(self, key: str) -> None:
        """Remove an object; one that is absent is fine."""
        try:
            with _told(key):
                await obstore.delete_async(self._bucket, check_key(key))
        except NotFound:
            return

    async def signed_url(self, key: str, lifetime: timedelta) -> str | None:
        """Return a URL by which anybody can fetch it for a while; see ObjectStore."""
        if not timedelta() < lifetime <= MAX_URL_LIFETIME:
            raise Invalid(f"a URL can be signed for {MAX_URL_LIFETIME} at most, not {lifetime}.")
        check_key(key)
        if not self._url.signed:
            return None
        with _told():
            return await obstore.sign_async(self._signer, "GET", key, lifetime)


class BucketWriter:
    """An ObjectWriter. The key is known only at the end, so the bytes wait in an unnamed temporary
    file, from which they are sent in parts; memory holds a few parts, never the object."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._file: IO[bytes] | None = None
        self._size = 0

    async def write(self, data: bytes) -> None:
        """Append bytes; see ObjectWriter."""
        with _told():
            await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # commit or abort closes it
        self._file.write(data)
        self._size += len(data)

    async def commit(self, key: str) -> None:
        """Make it durable under `key`; see ObjectWriter.

        Parts cannot be sent on condition that the key is free: it is asked for before. Should
        somebody else come in between, equal bytes replace equal bytes, as keys name the content.
        """
        check_key(key)
        try:
            with _told():
                if self._size <= _PART_BYTES:
                    await _create(self._bucket, key, await asyncio.to_thread(self._content))
                elif not await self._exists(key):
                    await obstore.put_async(
                        self._bucket,
                        key,
                        self._rewound(),
                        chunk_size=_PART_BYTES,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
        finally:
            await self.abort()

    async def _exists(self, key: str) -> bool:
        try:
            await obstore.head_async(self._bucket, key)
        except FileNotFoundError:
            return False
        return True

    def _rewound(self) -> IO[bytes]:
        assert self._file is not None  # noqa: S101  # more than a part was written
        self._file.seek(0)
        return self._file

    def _content(self) -> bytes:
        return self._rewound().read() if self._size else b""

    async def abort(self) -> None:
        """Forget it."""
        if self._file is not None:
            await asyncio.to_thread(self._file.close)
            self._file = None


async def _create(bucket: Bucket, key: str, data: bytes) -> bool:
    try:
        await obstore.put_async(bucket, key, data, mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def _bucket(url: BucketUrl, endpoint: str) -> Bucket:
    """Return obstore's bucket; raises Invalid."""
    options: ClientConfig = {**_LIMITS, "allow_http": endpoint.startswith("http://")}
    name, prefix = url.bucket, url.prefix or None
    try:
        if url.scheme == "gs":
            return GCSStore(name, prefix=prefix, client_options=options, retry_config=_RETRY)
        if url.scheme == "az":
            azure: AzureConfig = {}
            if url.account:
                azure["account_name"] = url.account
            if endpoint:
                azure["endpoint"] = endpoint
            return AzureStore(
                name, prefix=prefix, config=azure, client_options=options, retry_config=_RETRY
            )
        s3: S3Config = {}
        if url.region:
            s3["region"] = url.region
        if endpoint:
            s3["endpoint"] = endpoint
        return S3Store(name, prefix=prefix, config=s3, client_options=options, retry_config=_RETRY)
    except BaseError as error:
        raise Invalid(
            f"the store {url} cannot be used: {_first_line(error)}",
            hint="Credentials come from the environment, as for the vendor's own tools.",
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


@contextmanager
def _told(key: str = "") -> Iterator[None]:
    """Say in our words what the bucket, or the disk of a writer, said."""
    try:
        yield
    except FileNotFoundError as error:
        if key:
            raise NotFound(f"there is no object {key} in the store.") from None
        raise Unavailable(f"the bucket is not there: {_first_line(error)}") from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise Unavailable(
            f"the bucket refuses us: {_first_line(error)}",
            hint="Check the credentials in the control plane's environment, and what they allow.",
        ) from None
    except (BaseError, OSError) as error:
        raise _failure(error) from None


def _failure(error: BaseException) -> FederationError:
    said = _first_line(error)
    if any(word in str(error) for word in _FULL):
        return Exhausted(f"the bucket is full: {said}", hint="Raise its quota, or free space.")
    if any(word in str(error) for word in _BUSY):
        return Exhausted(f"the bucket asks to be spared: {said}", hint="Try again in a minute.")
    return Unavailable(f"the bucket failed: {said}")
