"""The settings of a router, checked before anything starts.

Input: flags, environment and a file, read by `federation.runtime.config`. Output: Settings, and the
values that are more than text. Every problem is an Invalid that names the flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.contract.errors import Invalid
from federation.contract.names import check_name
from federation.contract.types import Location
from federation.runtime.config import setting
from federation.trust.calls import Contact, check_url
from federation.trust.pins import check_pin
from router.public_tls import PublicTls, check_exposure
from router.state import Steer

MOST_HEDGED = 0.1
_WILDCARDS = ("0.0.0.0", "[::]", "")  # noqa: S104  # they are looked for, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Routes inference requests to the nearest healthy cluster of an inference federation."""

    name: str = setting("router", help="name of this router, unique in the federation")
    control_plane: str = setting("", help="HOST:PORT of the control plane's gRPC")
    control_plane_url: str = setting(
        "https://127.0.0.1:7480", help="URL of the control plane, to join and to renew"
    )
    join_token_file: str = setting("", help="file that holds the one-time join token")
    ca_pin: str = setting("", help="sha256:HEX of the root certificate to trust when joining")
    state_dir: str = setting(
        "",
        help="directory for the identity and the last snapshot "
        "(default: router-<name> below ~/.local/state/inference-federation)",
    )
    table: str = setting("", help="route by this table file alone, without a control plane")
    listen: str = setting("127.0.0.1:7400", help="HOST:PORT for clients")
    tls_certificate: str = setting("", help="certificate chain (PEM) that clients are shown")
    tls_key: str = setting("", help="private key (PEM) of --tls-certificate")
    insecure_listen: bool = setting(
        default=False, help="allow plain HTTP for clients on other than loopback addresses"
    )
    allow_anonymous: bool = setting(default=False, help="serve requests without a key")
    reverse_listen: str = setting(
        "127.0.0.1:7402", help='HOST:PORT where clusters behind NAT connect; "" = nowhere'
    )
    reverse_advertise: str = setting(
        "", help="HOST:PORT by which clusters behind NAT reach --reverse-listen"
    )
    admin_listen: str = setting("127.0.0.1:7401", help="HOST:PORT for metrics, health and explain")
    advertise_url: str = setting("", help="URL by which clients reach this router")
    location: str = setting("", help="LAT,LON of this router in degrees")
    trusted_proxies: tuple[str, ...] = setting((), help="CIDR whose X-Forwarded-For is believed")
    geoip_db: str = setting("", help="MaxMind City or Country database instead of the bundled one")
    prefer: tuple[str, ...] = setting(
        (), help="REGION, in the order in which regions are wanted; others come last"
    )
    max_share: tuple[str, ...] = setting(
        (), help="CLUSTER=SHARE, the largest share (0.4) of a model's requests that it may get"
    )
    queue_depth: int = setting(
        32, help="times what a cluster was measured to do at once: no more is sent there"
    )
    hedge_budget: float = setting(
        0.02,
        help="share of the requests that may be sent to a second cluster, too, when their answer "
        "is late; 0 = none",
    )
    no_hedge: tuple[str, ...] = setting((), help="MODEL whose requests never are")
    steer: str = setting(
        "tell",
        help="what clients are told that are clearly nearer to another router: off, tell (a Link "
        "header) or redirect (and a 307 for those that send x-fed-steer: redirect)",
    )
    decision_records: int = setting(
        4096, help="requests of which is remembered why they went where; about 1 KiB each"
    )
    connect_to: tuple[str, ...] = setting(
        (), help="HOST:PORT=HOST:PORT, dial the second for clusters that advertise the first"
    )
    max_body_bytes: int = setting(64 * 1024 * 1024, help="largest request body")
    replay_buffer_bytes: int = setting(
        8 * 1024 * 1024, help="largest body that can be sent again to another cluster"
    )
    replay_memory_bytes: int = setting(
        512 * 1024 * 1024,
        help="most memory for such bodies; without room a body is streamed once, or answered 503",
    )
    grpc_memory_bytes: int = setting(
        256 * 1024 * 1024,
        help="most memory for gRPC calls that wait to be sent on; beyond it they are ended",
    )
    max_concurrent: int = setting(4096, help="most requests at once; more are answered 429")
    max_connections: int = setting(8192, help="most connections of clients at once")
    max_connections_per_address: int = setting(
        1024, help="of these for one IPv4 address or IPv6 /64; --trusted-proxies are exempt"
    )
    client_idle_ms: int = setting(
        10_000,
        help="longest wait for a whole head, and between two requests on a connection: set it "
        "longer than a proxy in front keeps its connections",
    )
    client_body_ms: int = setting(60_000, help="longest time that a client may take for a body")
    client_stall_ms: int = setting(30_000, help="how long a client may not take its answer")
    deadline_ms: int = setting(
        60_000,
        help="longest wait for the first byte of an answer, unless x-fed-deadline-ms is sent",
    )
    hold_ms: int = setting(
        60_000,
        help="longest wait for a model that sleeps, unless x-fed-deadline-ms is sent",
    )
    hold_requests: int = setting(1024, help="most requests that may wait for models that sleep")
    hold_requests_per_model: int = setting(128, help="of these for one model")
    hold_memory_bytes: int = setting(64 * 1024 * 1024, help="most memory for their bodies")
    workers: int = setting(
        1, help="processes that serve clients, beside one that keeps them; 0 = one for each core"
    )
    log_level: str = setting("INFO", help="DEBUG, INFO, WARNING or ERROR")


_POSITIVE = (
    *("max_body_bytes", "replay_buffer_bytes", "replay_memory_bytes", "deadline_ms"),
    "grpc_memory_bytes",
    *("max_concurrent", "max_connections", "max_connections_per_address", "queue_depth"),
    *("client_idle_ms", "client_body_ms", "client_stall_ms"),
    *("hold_ms", "hold_requests", "hold_requests_per_model", "hold_memory_bytes"),
)


def check(settings: Settings) -> None:
    """Refuse settings that cannot work together; raises Invalid."""
    check_name("router", settings.name)
    if bool(settings.table) == bool(settings.control_plane):
        raise Invalid(
            "A router needs --control-plane or --table, and only one of them.",
            hint="Use --control-plane HOST:PORT with --control-plane-url, or --table FILE alone.",
        )
    if settings.control_plane:
        check_url(settings.control_plane_url)
    if settings.ca_pin:
        check_pin(settings.ca_pin)
    _check_public(settings)
    _check_reverse(settings)
    _check_workers(settings)
    parse_shares(settings.max_share)
    for flag in _POSITIVE:
        if getattr(settings, flag) <= 0:
            raise Invalid(f"--{flag.replace('_', '-')} must be greater than 0.")
    if not 0.0 <= settings.hedge_budget <= MOST_HEDGED:
        raise Invalid(
            f"--hedge-budget {settings.hedge_budget:g} is no share from 0 to {MOST_HEDGED:g}.",
            hint="Use 0.02, or 0 for none.",
        )
    if settings.decision_records < 0:
        raise Invalid("--decision-records must not be negative.", hint="Use 0 for none.")
    if settings.steer not in tuple(Steer):
        raise Invalid(f"--steer {settings.steer!r} is none.", hint=f"Use {', '.join(Steer)}.")
    if settings.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Invalid(f"--log-level {settings.log_level!r} is none.", hint="Use INFO.")


def parse_location(text: str) -> Location | None:
    """Return the place that `LAT,LON` names, None for ""; raises Invalid."""
    if not text:
        return None
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        latitude, longitude = float("nan"), float("nan")
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise Invalid(f"--location {text!r} is no place.", hint="Use LAT,LON like 52.37,4.90.")
    return Location(latitude=latitude, longitude=longitude)


def parse_shares(entries: tuple[str, ...]) -> dict[str, float]:
    """Return the shares that `CLUSTER=SHARE` name; raises Invalid."""
    shares = {}
    for entry in entries:
        cluster, _, text = entry.partition("=")
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        if not (cluster and 0.0 < share <= 1.0):
            raise Invalid(f"--max-share {entry!r} is none.", hint="Use CLUSTER=0.4.")
        shares[cluster] = share
    return shares


def state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Return where the router keeps what it must not lose (XDG base directory specification)."""
    if settings.state_dir:
        return Path(settings.state_dir).absolute()
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "inference-federation" / f"router-{settings.name}"


def contact(settings: Settings) -> Contact:
    """Return how to reach the control plane's open routes."""
    path = settings.join_token_file
    return Contact(
        url=settings.control_plane_url, pin=settings.ca_pin, token_file=Path(path) if path else None
    )


def public_tls(settings: Settings) -> PublicTls | None:
    """Return what clients are shown, None if they are served plain HTTP; raises Invalid."""
    if not settings.tls_certificate:
        return None
    return PublicTls(Path(settings.tls_certificate), Path(settings.tls_key))


def reverse_address(settings: Settings, bound: tuple[str, int]) -> str:
    """Return where agents dial this router, which takes their connections on `bound`."""
    if settings.reverse_advertise:
        return settings.reverse_advertise
    host = settings.reverse_listen.rpartition(":")[0]
    return f"{host}:{bound[1]}"


def _check_public(settings: Settings) -> None:
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise Invalid("--tls-certificate and --tls-key belong together.")
    check_exposure(
        settings.listen, tls=bool(settings.tls_certificate), insecure=settings.insecure_listen
    )


def _check_workers(settings: Settings) -> None:
    if settings.workers < 0:
        raise Invalid("--workers must not be negative.", hint="Use 0 for one for each core.")


def _check_reverse(settings: Settings) -> None:
    if not settings.reverse_listen or settings.table or settings.reverse_advertise:
        return
    if settings.reverse_listen.rpartition(":")[0] in _WILDCARDS:
        raise Invalid(
            f"agents cannot dial {settings.reverse_listen}.",
            hint="Give --reverse-advertise with the HOST:PORT by which they reach it.",
        )
