"""The settings of a router, checked before anything starts.

Input: flags, environment and a file, read by `federation.runtime.config`. Output: Settings, and the
values that are more than text. Every problem is an Invalid that names the flag.
"""

from dataclasses import dataclass
from pathlib import Path

from federation.contract.errors import Invalid
from federation.contract.names import check_name
from federation.contract.types import Location
from federation.runtime.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Routes inference requests to the nearest healthy cluster of an inference federation."""

    name: str = setting("router", help="name of this router, unique in the federation")
    control_plane: str = setting("", help="HOST:PORT of the control plane's gRPC")
    token_file: str = setting("", help="file that holds the router token")
    state_dir: str = setting("", help="directory that keeps the last snapshot across restarts")
    table: str = setting("", help="route by this table file alone, without a control plane")
    listen: str = setting("127.0.0.1:7400", help="HOST:PORT for clients")
    admin_listen: str = setting("127.0.0.1:7401", help="HOST:PORT for metrics, health and explain")
    advertise_url: str = setting("", help="URL by which clients reach this router")
    location: str = setting("", help="LAT,LON of this router in degrees")
    trusted_proxies: tuple[str, ...] = setting((), help="CIDR whose X-Forwarded-For is believed")
    geoip_db: str = setting("", help="MaxMind City or Country database instead of the bundled one")
    connect_to: tuple[str, ...] = setting(
        (), help="HOST:PORT=HOST:PORT, dial the second for clusters that advertise the first"
    )
    max_body_bytes: int = setting(64 * 1024 * 1024, help="largest request body")
    replay_buffer_bytes: int = setting(
        8 * 1024 * 1024, help="largest body that can be sent again to another cluster"
    )
    max_concurrent: int = setting(4096, help="most requests at once; more are answered 429")
    deadline_ms: int = setting(
        60_000,
        help="longest wait for the first byte of an answer, unless x-fed-deadline-ms is sent",
    )
    log_level: str = setting("INFO", help="DEBUG, INFO, WARNING or ERROR")


def check(settings: Settings) -> None:
    """Refuse settings that cannot work together; raises Invalid."""
    check_name("router", settings.name)
    if bool(settings.table) == bool(settings.control_plane):
        raise Invalid(
            "A router needs --control-plane or --table, and only one of them.",
            hint="Use --control-plane HOST:PORT with --token-file, or --table FILE alone.",
        )
    if settings.control_plane and not settings.token_file:
        raise Invalid(
            "--control-plane needs --token-file.",
            hint="The control plane writes router.token into its state directory.",
        )
    for flag in ("max_body_bytes", "replay_buffer_bytes", "max_concurrent", "deadline_ms"):
        if getattr(settings, flag) <= 0:
            raise Invalid(f"--{flag.replace('_', '-')} must be greater than 0.")
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


def read_token(path: str) -> str:
    """Return the token in a file; raises Invalid."""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"Cannot read --token-file {path}: {error}.") from None
    if not token:
        raise Invalid(f"--token-file {path} is empty.")
    return token
