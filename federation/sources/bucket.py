"""Packages in object storage: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.

Input: objects below a prefix; endpoint and credentials from the environment, by the names that the
clouds' own tools use. Output: their files, pinned: the revision is the BLAKE3 over all names,
lengths and ETags, and each object is read on condition that its ETag is still the same.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3

from federation.contract.errors import (
    Conflict,
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from federation.sources.base import Opened, Progress, Wanted, client_library
from federation.sources.blobs import Blob, BlobCache
from federation.sources.uri import SourceUri
from federation.sources.view import check_names, linked

_BLOCK_BYTES = 1 << 20
_REFUSED = re.compile(r"status(?: code:)? 40[13]\b|169\.254\.169\.254|Missing AccessKeyId")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    path: str
    size: int
    etag: str


@contextmanager
def open_bucket(
    uri: SourceUri, *, cache: Path, progress: Progress, wanted: Wanted
) -> Iterator[Opened]:
    """Fetch the objects below a prefix. Raises NotFound if there are none, PermissionDenied,
    Conflict if one changes meanwhile or the pinned revision is no longer there, Unavailable."""
    body, _, pin = uri.body.rpartition("@") if _is_pinned(uri.body) else (uri.body, "", "")
    bare = SourceUri(uri.scheme, body)
    store = _Store(bare)
    objects = list(store.objects())
    if not objects:
        raise NotFound(f"there is nothing below {bare}.", hint="Check bucket and prefix.")
    picked = set(wanted.pick((each.path for each in objects), str(bare)))
    chosen = [each for each in objects if each.path in picked]
    check_names((each.path for each in chosen), str(bare))
    revision = _revision(objects)
    if pin and pin != revision:
        raise Conflict(
            f"what lies below {bare} is not {pin[:16]}… but {revision}.",
            hint="Leave @… out to push what is there now.",
        )
    blobs = BlobCache(cache)
    wants = [(each, store.blob(each)) for each in chosen]
    done, total = 0, sum(each.size for each in chosen)
    files: dict[str, Path] = {}
    for each, blob in wants:

        def told(here: int, before: int = done, path: str = each.path) -> None:
            progress(before + here, total, path)

        files[each.path] = blobs.fetch(blob, store.reader(each), told)
        done += each.size
    with linked(files, cache, str(bare)) as directory:
        yield Opened(directory=directory, source=f"{bare}@{revision}", revision=revision)


class _Store:
    """One prefix of a bucket."""

    def __init__(self, uri: SourceUri) -> None:
        self._obs = client_library("obstore", "bucket", uri.scheme)
        self._errors = client_library("obstore.exceptions", "bucket", uri.scheme)
        self._uri = uri
        bucket, _, prefix = uri.body.partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        with self._translated(str(uri)):
            self._store = _connect(uri.scheme, bucket)

    def objects(self) -> Iterator[_Object]:
        """Yield what lies below the prefix, ordered by path."""
        found: list[_Object] = []
        with self._translated(str(self._uri)):
            for page in self._obs.list(self._store, prefix=self._prefix or None):
                for meta in page:
                    key, etag = str(meta["path"]), str(meta.get("e_tag") or "")
                    path = key.removeprefix(self._prefix)
                    found.append(_Object(key, path, int(meta["size"]), etag))
        folders = {str(parent) for each in found for parent in PurePosixPath(each.path).parents}
        # Consoles make empty objects to show folders; the library cuts the '/' at their ends.
        files = (each for each in found if each.size or each.path not in folders)
        return iter(sorted(files, key=lambda each: each.path))

    def blob(self, each: _Object) -> Blob:
        """Return how an object is known in the cache."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        identity = (self._uri.scheme, endpoint, self._uri.body, each.path, each.etag)
        return Blob(identity=identity, size=each.size, name=f"{self._uri}/{each.path}")

    def reader(self, each: _Object) -> Any:
        """Return what reads an object from an offset on."""

        def read(start: int) -> Iterator[bytes]:
            if start >= each.size:
                return
            options: dict[str, object] = {"range": {"offset": start}} if start else {}
            if each.etag:
                options["if_match"] = each.etag
            with self._translated(f"{self._uri}/{each.path}"):
                answer = self._obs.get(self._store, each.key, options=options)
                for block in answer.stream(min_chunk_size=_BLOCK_BYTES):
                    yield bytes(block)

        return read

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors.BaseError as error:
            raise self._meaning(error, what) from None
        except (OSError, ValueError) as error:  # obstore's streams raise what io does
            raise Unavailable(f"cannot read {what}: {_first_line(error)}.") from None

    def _meaning(self, error: Exception, what: str) -> FederationError:
        known = self._errors
        if isinstance(error, known.NotFoundError):
            return NotFound(f"{what} does not exist.")
        if isinstance(error, known.PreconditionError):
            return Conflict(f"{what} was changed while it was fetched.", hint="Push again.")
        refused = (known.PermissionDeniedError, known.UnauthenticatedError)
        # Of listings it says so in words; that address is where a cloud's machines get credentials.
        if isinstance(error, refused) or _REFUSED.search(str(error)):
            return PermissionDenied(
                f"the object store refuses {what}.",
                hint="Check the credentials in the environment.",
            )
        if isinstance(error, known.UnknownConfigurationKeyError):
            return Invalid(f"the settings of the object store are wrong: {_first_line(error)}.")
        return Unavailable(f"cannot read {what}: {_first_line(error)}.")


def _connect(scheme: str, bucket: str) -> Any:
    stores = client_library("obstore.store", "bucket", scheme)
    retry = {"max_retries": 3}
    if scheme == "gs":
        return stores.GCSStore(bucket, retry_config=retry)
    if scheme == "az":
        return stores.AzureStore(bucket, retry_config=retry)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, object] = {}
    options: dict[str, object] = {}
    if endpoint:
        config["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            near = urlsplit(endpoint).hostname in _LOOPBACK
            if not near and not os.environ.get("AWS_ALLOW_HTTP"):
                raise Invalid(
                    f"the object store's endpoint {endpoint.rpartition('@')[2]} is not encrypted.",
                    hint="Use https, or set AWS_ALLOW_HTTP=true.",
                )
            options["allow_http"] = True
    if "AWS_ACCESS_KEY_ID" not in os.environ and _anonymous():
        config["skip_signature"] = True
    return stores.S3Store(bucket, config=config, client_options=options or None, retry_config=retry)


def _anonymous() -> bool:
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")


def _revision(objects: list[_Object]) -> str:
    hasher = blake3()
    for each in objects:
        hasher.update(f"{each.path}\x00{each.size}\x00{each.etag}\x00".encode())
    return hasher.hexdigest()


def _is_pinned(body: str) -> bool:
    _, at, pin = body.rpartition("@")
    return bool(at) and len(pin) == 64 and all(c in "0123456789abcdef" for c in pin)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
