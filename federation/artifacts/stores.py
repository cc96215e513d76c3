"""Which object store an address means.

Input: a path, or a URL such as s3://bucket/prefix. Output: an ObjectStore.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from federation.artifacts.base import ObjectStore
from federation.artifacts.bucket_url import SCHEMES
from federation.artifacts.objects_local import LocalObjects
from federation.contract.errors import Invalid


def open_objects(address: str) -> ObjectStore:
    """Return the store at a path (made if it is absent), file://, s3://, gs:// or az:// URL; raises
    Invalid, also if the client library of buckets is not installed."""
    scheme, separator, _ = address.partition("://")
    if not address:
        raise Invalid("the store's address is empty.")
    if not separator:
        return LocalObjects(Path(address))
    if scheme == "file":
        url = urlsplit(address)
        if url.netloc or not url.path.startswith("/") or url.query:
            raise Invalid(
                f"{address[:120]!r} is no directory.", hint="E.g. file:///var/lib/fed/artifacts"
            )
        return LocalObjects(Path(unquote(url.path)))
    if scheme not in SCHEMES:
        raise Invalid(
            f"{address[:120]!r} is no store.",
            hint="Give a directory, or a URL with s3://, gs:// or az://.",
        )
    try:
        from federation.artifacts.objects_bucket import BucketObjects
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise Invalid(
            f"a {scheme}:// store needs a library that is not installed.",
            hint='pip install "inference-federation[bucket]"',
        ) from None
    return BucketObjects(address)
