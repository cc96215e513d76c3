"""What a user may write as the source of a package.

Input: the argument of `fed model push`. Output: a SourceUri, or Invalid with what was meant.
Credentials are refused in a URI: it lands in the shell's history and in the version's record.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from federation.contract.errors import Invalid
from federation.contract.names import near_misses

SCHEMES = ("file", "s3", "gs", "az", "hf", "oci", "mlflow")
_SHAPES = {
    "file": "file:///absolute/path",
    "s3": "s3://bucket/prefix",
    "gs": "gs://bucket/prefix",
    "az": "az://container/prefix",
    "hf": "hf://org/model@revision",
    "oci": "oci://registry/repository:tag or …@sha256:digest",
    "mlflow": "mlflow://name@alias or mlflow://name/version",
}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "HF_TOKEN, or log in with `hf auth login`",
    "oci": "~/.docker/config.json, as `docker login` or `oras login` write it",
    "mlflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}
# How other tools write what we have a scheme for.
_ALIASES = {
    "huggingface": "hf", "hfhub": "hf", "docker": "oci", "oras": "oci", "s3a": "s3", "s3n": "s3",
    "gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "models": "mlflow",
}  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)(.*)", re.DOTALL)
_NOT_FOUND = "Write a directory, or one of: " + ", ".join(f"{name}://" for name in SCHEMES) + "."


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A source: `body` is all that follows `scheme://`; of a directory, its path."""

    scheme: str
    body: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.body}"


def parse_source(text: str) -> SourceUri:
    """Read a directory or URI; raises Invalid."""
    match = _SCHEME.fullmatch(text)
    if match is None or os.path.lexists(text):
        if not text.strip() or "\x00" in text:
            raise Invalid("the source is empty.", hint=_NOT_FOUND)
        return SourceUri("file", str(Path(text).absolute()))
    scheme, slashes, body = match.group(1).lower(), match.group(2), match.group(3)
    if scheme not in SCHEMES:
        raise _unknown(scheme, slashes, body)
    if scheme == "file":
        return SourceUri("file", _file_path(text))
    if slashes != "//":
        raise Invalid(
            f"a source begins with {scheme}:// and two slashes.",
            hint=f"Did you mean {scheme}://{redacted(body)}?",
        )
    return SourceUri(scheme, _checked(scheme, body))


def malformed(uri: SourceUri, why: str) -> Invalid:
    """Return the refusal of a URI of a known scheme."""
    return Invalid(f"{uri} is malformed: {why}.", hint=f"Write {_SHAPES[uri.scheme]}.")


def redacted(body: str) -> str:
    """Return what follows `scheme://` without what may be secret: passwords, queries, fragments."""
    body = re.split(r"[?#]", body, maxsplit=1)[0]
    return re.sub(r"^[^/@]*:[^/@]*@", "", body)


def _checked(scheme: str, body: str) -> str:
    shown = f"{scheme}://{redacted(body)}"
    if "?" in body or "#" in body:
        raise Invalid(
            f"{shown} must not be followed by a query or a fragment.",
            hint="Write it without; settings and signatures come from the environment "
            f"({_CREDENTIALS[scheme]}).",
        )
    authority = body.split("/", 1)[0]
    if redacted(body) != body or _has_login(scheme, authority):
        raise Invalid(
            f"credentials do not belong into the URI ({scheme}://{body.rsplit('@', 1)[-1]}).",
            hint=f"Give them by {_CREDENTIALS[scheme]}.",
        )
    if not body.strip("/") or not body.isprintable() or " " in body:
        raise malformed(SourceUri(scheme, body), "a name is missing or has unusual characters")
    return body.strip("/")


def _has_login(scheme: str, authority: str) -> bool:
    """Return whether the first segment holds a user or a password, perhaps cut by a '/' in it."""
    host, _, port = authority.partition(":")
    if scheme == "oci":
        return "@" in host or not (port.isdigit() or authority in (host, f"{host}:"))
    # In the others nothing has a port, and of those two `name@revision` may be all there is.
    return ":" in authority or ("@" in authority and scheme not in ("hf", "mlflow"))


def _file_path(text: str) -> str:
    rest = text.partition(":")[2]
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
    if host not in ("", "localhost"):
        raise Invalid(
            f"file://{redacted(host)}/… names another machine.",
            hint=f"Did you mean file:///{redacted(host)}{path}?",
        )
    if not path.startswith("/") or "\x00" in unquote(path):
        raise Invalid("a file:// source is an absolute path.", hint=f"Write {_SHAPES['file']}.")
    return unquote(path)


def _unknown(scheme: str, slashes: str, body: str) -> Invalid:
    known = _ALIASES.get(scheme) or next(iter(near_misses(scheme, SCHEMES)), "")
    shown = redacted(body)
    if scheme in ("http", "https"):
        hint = _web_hint(shown)
    elif known:
        hint = f"Did you mean {known}://{shown.removeprefix('/')}?"
    elif not slashes:
        hint = f"There is no such directory. {_NOT_FOUND}"
    else:
        hint = _NOT_FOUND
    return Invalid(f"{scheme}:{slashes}{shown} is no source of packages.", hint=hint)


def _web_hint(shown: str) -> str:
    host, _, path = shown.partition("/")
    if host in ("huggingface.co", "hf.co"):
        repository = "/".join(path.split("/")[:2])
        revision = re.match(r"[^/]+/[^/]+/(?:tree|blob|resolve)/([^/]+)", path)
        return f"Did you mean hf://{repository}{f'@{revision[1]}' if revision else ''}?"
    if bucket := re.match(r"([a-z0-9.-]+)\.s3[.-][a-z0-9.-]*amazonaws\.com$", host):
        return f"Did you mean s3://{bucket[1]}/{path}?"
    if host == "storage.googleapis.com":
        return f"Did you mean gs://{path}?"
    return "Web pages cannot be pushed: download the files, and push their directory."
