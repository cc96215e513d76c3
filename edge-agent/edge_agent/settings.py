"""The settings of an edge agent, checked before anything starts.

Input: flags, environment and a file, read by `federation.runtime.config`. Output: Settings, and the
values that are more than text. Every problem is an Invalid that names the flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from federation.contract.errors import Invalid
from federation.contract.names import check_name
from federation.runtime.config import setting

_WILDCARDS = ("0.0.0.0", "[::]", "")  # noqa: S104  # they are looked for, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Connects one cluster's serving engine to an inference federation."""

    cluster: str = setting(help="name of this cluster, as registered")
    state_dir: str = setting(
        "",
        help="directory for the credential, the assignment and packages "
        "(default: agent-<cluster> below ~/.local/state/inference-federation)",
    )
    control_plane: str = setting("127.0.0.1:7481", help="HOST:PORT of the control plane's gRPC")
    control_plane_url: str = setting(
        "http://127.0.0.1:7480", help="URL of the control plane, to fetch packages from"
    )
    join_token_file: str = setting("", help="file that holds the one-time join token")
    listen: str = setting("127.0.0.1:7500", help="HOST:PORT of the gateway, for routers")
    admin_listen: str = setting("127.0.0.1:7501", help="HOST:PORT for metrics and health")
    advertise_url: str = setting("", help="URL by which routers reach the gateway")
    engine: Literal["triton", "ray-serve", "static"] = setting(
        "triton", help="triton, ray-serve or static"
    )
    engine_url: str = setting("http://127.0.0.1:8000", help="URL of the engine's inference port")
    engine_token_file: str = setting(
        "", help="file that holds the bearer token which a static engine wants"
    )
    triton_repository: str = setting(
        "",
        help="the folder that Triton was started with as --model-repository "
        "(default: model-repository below the state directory)",
    )
    ray_dashboard_url: str = setting("http://127.0.0.1:8265", help="URL of Ray's dashboard")
    ray_token_file: str = setting("", help="file that holds Ray's token")
    inventory_file: str = setting("", help="YAML or JSON file that declares this cluster's devices")
    log_level: str = setting("INFO", help="DEBUG, INFO, WARNING or ERROR")


def check(settings: Settings) -> None:
    """Refuse settings that cannot work; raises Invalid."""
    check_name("cluster", settings.cluster)
    for flag in ("control_plane_url", "engine_url", "ray_dashboard_url", "advertise_url"):
        value = getattr(settings, flag)
        if value and (
            urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc
        ):
            name = flag.replace("_", "-")
            raise Invalid(f"--{name} {value!r} is no URL.", hint="Use http://HOST:PORT.")
    if not settings.advertise_url and settings.listen.rpartition(":")[0] in _WILDCARDS:
        raise Invalid(
            f"routers cannot dial {settings.listen}.",
            hint="Give --advertise-url with the URL by which they reach this gateway.",
        )
    if settings.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Invalid(f"--log-level {settings.log_level!r}: use DEBUG, INFO, WARNING or ERROR.")


def state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Return where the agent keeps what it must not lose (XDG base directory specification)."""
    if settings.state_dir:
        return Path(settings.state_dir).absolute()
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(base).expanduser() / "inference-federation"
    return folder / f"agent-{settings.cluster}"


def triton_repository(settings: Settings, state_dir: Path) -> Path:
    """Return the folder that agent and Triton share."""
    if settings.triton_repository:
        return Path(settings.triton_repository)
    return state_dir / "model-repository"


def read_secret(path: str, flag: str) -> str:
    """Return the secret in a file, "" if no file is given; raises Invalid."""
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"--{flag}: cannot read {path}: {error}.") from None
    if not secret:
        raise Invalid(f"--{flag}: {path} is empty.")
    return secret


def advertised(settings: Settings, address: tuple[str, int]) -> str:
    """Return the URL by which routers reach the gateway, which listens on `address`."""
    if settings.advertise_url:
        return settings.advertise_url.rstrip("/")
    host = settings.listen.rpartition(":")[0]
    return f"http://{host}:{address[1]}"
