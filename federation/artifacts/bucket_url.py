"""The URL of a bucket, taken apart.

Input: text from an operator. Output: a BucketUrl, or Invalid with what is wrong.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from federation.contract.errors import Invalid

SCHEMES = ("s3", "gs", "az")
_OPTIONS = {
    "s3": ("endpoint", "region", "public_endpoint", "signed"),
    "gs": ("signed",),
    "az": ("account", "endpoint", "public_endpoint", "signed"),
}
# Buckets under three letters exist nowhere, and one S3 server answers odd things about them.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]*(?:/[0-9A-Za-z_-][0-9A-Za-z._-]*)*")
_EXAMPLE = "s3://my-bucket/models?endpoint=https://s3.example.org&region=eu-central-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketUrl:
    """What a URL of a bucket says; empty = the default of the vendor, or of the environment."""

    scheme: str
    bucket: str
    prefix: str = ""
    endpoint: str = ""
    public_endpoint: str = ""
    region: str = ""
    account: str = ""
    signed: bool = True

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"


def parse_bucket_url(text: str) -> BucketUrl:
    """Take a URL apart; raises Invalid."""
    try:
        url = urlsplit(text)
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise _refused(text, "it is no URL") from None
    if url.scheme not in SCHEMES:
        raise _refused(text, f"it must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if "@" in url.netloc:
        raise _refused(url.scheme, "credentials come from the environment, not in the URL")
    if not _BUCKET.fullmatch(url.netloc):
        raise _refused(text, f"{url.netloc[:80]!r} cannot be the name of a bucket")
    prefix = url.path.strip("/")
    if url.fragment or (prefix and not _PREFIX.fullmatch(prefix)):
        raise _refused(text, f"{url.path[:80]!r} cannot be a prefix of keys")
    options = dict(pairs)
    if unknown := options.keys() - set(_OPTIONS[url.scheme]):
        known = ", ".join(_OPTIONS[url.scheme])
        raise _refused(text, f"it has the unknown option {min(unknown)!r} (known: {known})")
    if len(options) != len(pairs) or not all(options.values()):
        raise _refused(text, "an option is empty or given twice")
    for name in ("endpoint", "public_endpoint"):
        _check_endpoint(text, options.get(name, ""))
    signed = options.pop("signed", "yes")
    if signed not in ("yes", "no"):
        raise _refused(text, "`signed` is yes or no")
    return BucketUrl(
        scheme=url.scheme, bucket=url.netloc, prefix=prefix, signed=signed == "yes", **options
    )


def _check_endpoint(text: str, endpoint: str) -> None:
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        named = parts.hostname if parts.port != 0 else None
    except ValueError:
        raise _refused(text, f"{endpoint[:80]!r} is no URL") from None
    if parts.scheme not in ("http", "https") or not named or "@" in parts.netloc:
        raise _refused(text, f"{endpoint[:80]!r} is no endpoint such as https://s3.example.org")
    if parts.query or parts.fragment:
        raise _refused(text, f"the endpoint {endpoint[:80]!r} has a query")


def _refused(text: str, why: str) -> Invalid:
    return Invalid(f"the store's address {text[:120]!r} is wrong: {why}.", hint=f"E.g. {_EXAMPLE}")
