"""The settings of the control plane, and what cannot be set together.

Input: flags, environment and file (see `runtime.config`). Output: Settings that were checked.
"""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from federation.contract.errors import Invalid
from federation.contract.names import check_name
from federation.contract.spiffe import check_trust_domain
from federation.identity.oidc import Provider, provider
from federation.runtime.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The control plane of an inference federation."""

    state_dir: str = setting(help="directory for database, packages and tokens")
    http_listen: str = setting("127.0.0.1:7480", help="HOST:PORT of the operator API")
    grpc_listen: str = setting("127.0.0.1:7481", help="HOST:PORT for edge agents and routers")
    lease_seconds: int = setting(10, help="silence after which a cluster counts as absent")
    max_rollouts: int = setting(50, help="how many rollouts go on at once; others wait")
    report_interval_ms: int = setting(1000, help="how often agents report")
    store: Literal["sqlite", "memory"] = setting("sqlite", help="sqlite, or memory to forget all")
    store_url: str = setting("", help="where packages lie instead: s3://, gs://, az://, a path")
    collect_hours: int = setting(24, help="how often unused chunks are removed; 0 = never")
    packs_url: str = setting("", help="URL below which agents find packs: of a CDN, nginx")
    allowed_hosts: tuple[str, ...] = setting((), help="host name by which clients may call the API")
    trust_domain: str = setting("federation.internal", help="what all identities are named after")
    name: str = setting("main", help="name of this control plane in its own certificate")
    leaf_seconds: int = setting(86400, help="how long a certificate lasts at most")
    renew_grace_days: int = setting(30, help="how long an expired certificate may be renewed")
    oidc_issuer: str = setting("", help="identity provider whose people may call the API")
    oidc_audience: str = setting("", help="what its tokens must name as their audience")
    oidc_jwks_url: str = setting("", help="https URL of its public keys")
    oidc_jwks_file: str = setting("", help="file of its public keys, instead of a URL")
    oidc_claim: str = setting("groups", help="claim that --oidc-roles speaks of, like a.b")
    oidc_roles: tuple[str, ...] = setting((), help="VALUE=ROLE[:SCOPE], for a value of the claim")
    traces_url: str = setting("", help="collector of OpenTelemetry (OTLP/HTTP) for spans")
    log_level: str = setting("info", help="debug, info, warning or error")


def check_settings(settings: Settings) -> None:
    """Raise Invalid for settings that cannot work together."""
    if settings.lease_seconds < 1 or settings.report_interval_ms < 10:
        raise Invalid("--lease-seconds must be at least 1, --report-interval-ms at least 10.")
    if settings.report_interval_ms * 2 > settings.lease_seconds * 1000:
        raise Invalid(
            "a lease must last at least two report intervals.",
            hint="Raise --lease-seconds or lower --report-interval-ms.",
        )
    if settings.log_level.lower() not in ("debug", "info", "warning", "error"):
        raise Invalid(
            f"--log-level {settings.log_level!r} is unknown: debug, info, warning, error."
        )
    if settings.max_rollouts < 1:
        raise Invalid("--max-rollouts must be at least 1.")
    check_trust_domain(settings.trust_domain)
    check_name("control plane", settings.name)
    people_of(settings)
    if settings.leaf_seconds < 1 or settings.renew_grace_days < 0:
        raise Invalid("--leaf-seconds must be at least 1, --renew-grace-days at least 0.")
    if settings.collect_hours < 0:
        raise Invalid("--collect-hours must be at least 0.")
    for address in (settings.http_listen, settings.grpc_listen):
        split_address(address)
    if settings.traces_url and urlsplit(settings.traces_url).scheme not in ("http", "https"):
        raise Invalid(f"--traces-url {settings.traces_url!r} is no http or https URL.")
    if settings.packs_url and urlsplit(settings.packs_url).scheme not in ("http", "https"):
        raise Invalid(f"--packs-url {settings.packs_url!r} is no http or https URL.")


def people_of(settings: Settings) -> Provider | None:
    """Return whom we believe of people, None = nobody; raises Invalid."""
    return provider(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        jwks=(settings.oidc_jwks_url, settings.oidc_jwks_file),
        claim=settings.oidc_claim,
        roles=settings.oidc_roles,
    )


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` (IPv6 in brackets); raises Invalid."""
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise Invalid(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    return host.strip("[]"), int(port)
