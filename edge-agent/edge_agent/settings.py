"""The settings of an edge agent, checked before anything starts.

Input: flags, environment and a file, read by `federation.runtime.config`. Output: Settings, and the
values that are more than text. Every problem is an Invalid that names the flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edge_agent.policy.kube.fields import quantity
from edge_agent.policy.kube.tolerations import GPU_TOLERATIONS, Toleration, toleration
from edge_agent.policy.releases import Publishers, parse_publishers
from federation.contract.errors import Invalid, Unavailable
from federation.contract.names import check_name
from federation.contract.package import is_safe_path
from federation.runtime.config import setting
from federation.trust.calls import Contact, check_url
from federation.trust.pins import check_pin

_WILDCARDS = ("0.0.0.0", "[::]", "")  # noqa: S104  # they are looked for, not listened on


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Connects one cluster's serving engine to an inference federation. `fed-edge-agent inventory`
    only prints the devices that it sees.
    """

    cluster: str = setting(help="name of this cluster, as registered")
    state_dir: str = setting(
        "",
        help="directory for the identity, the assignment and packages "
        "(default: agent-<cluster> below ~/.local/state/inference-federation)",
    )
    control_plane: str = setting("127.0.0.1:7481", help="HOST:PORT of the control plane's gRPC")
    control_plane_url: str = setting(
        "https://127.0.0.1:7480", help="URL of the control plane, to join and to fetch packages"
    )
    join_token_file: str = setting("", help="file that holds the one-time join token")
    ca_pin: str = setting("", help="sha256:HEX of the root certificate to trust when joining")
    connectivity: Literal["dial", "reverse"] = setting(
        "dial", help="dial: routers dial the gateway; reverse: this agent dials the routers"
    )
    reverse_idle: int = setting(
        4, help="connections kept ready at each router where this agent dials them (1 to 64)"
    )
    connect_to: tuple[str, ...] = setting(
        (), help="HOST:PORT=HOST:PORT: dial the second where a router names the first"
    )
    listen: str = setting(
        "127.0.0.1:7500", help="HOST:PORT of the gateway, for routers (not with reverse)"
    )
    admin_listen: str = setting("127.0.0.1:7501", help="HOST:PORT for metrics and health")
    advertise_url: str = setting("", help="URL by which routers reach the gateway")
    engine: Literal["triton", "ray-serve", "static", "triton-kubernetes", "kuberay"] = setting(
        "triton",
        help="triton, ray-serve, static, or engines that are run on Kubernetes: triton-kubernetes, "
        "kuberay",
    )
    engine_url: str = setting("http://127.0.0.1:8000", help="URL of the engine's inference port")
    engine_grpc: str = setting(
        "",
        help="HOST:PORT of Triton's gRPC (default: one port above --engine-url); "
        '"none" = do not offer it',
    )
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
    publisher_keys: str = setting(
        "", help="file with lines PATTERN PUBLIC-KEY: who must have signed models of these names"
    )
    inventory: Literal["auto", "none", "nvml", "amd", "declared", "engine", "kubernetes"] = setting(
        "auto",
        help="what sees the devices: auto, none, nvml, amd, declared (--inventory-file), engine "
        "or kubernetes",
    )
    kubeconfig: str = setting(
        "", help="kubeconfig file (default: in a pod its service account, else as kubectl)"
    )
    kube_context: str = setting("", help="context of the kubeconfig (default: the current one)")
    kube_namespace: str = setting(
        "", help="namespace of the serving workloads (default: in a pod its own, else default)"
    )
    kube_toleration: tuple[str, ...] = setting(
        (),
        help="taint that serving workloads bear, as key, key:effect, key=value or "
        "key=value:effect; vendors' GPU taints are borne anyway",
    )
    kube_engine_image: str = setting("", help="image of the engines that are run on Kubernetes")
    kube_models_claim: str = setting(
        "", help="PersistentVolumeClaim that this agent writes versions to and engines read"
    )
    kube_models_path: str = setting("", help="folder in that claim (default: all of it)")
    kube_models_dir: str = setting("/models", help="where that folder is mounted in this agent")
    kube_engine_cpu: str = setting("1", help="CPUs that each engine's pod requests")
    kube_engine_memory: str = setting("4Gi", help="memory that each engine's pod may use")
    calibrate_s: float = setting(
        2.0,
        help="how long it is measured at most what a new version can do, while nothing else is in "
        "flight; 0 = not at all",
    )
    calibrate_latency_ms: int = setting(
        1000, help="a load at which answers (of text: first tokens) take longer is too much"
    )
    scrub_days: int = setting(7, help="how often packages on disk are read again; 0 = never")
    inventory_file: str = setting("", help="YAML or JSON file that declares this cluster's devices")
    dcgm_url: tuple[str, ...] = setting(
        (), help="URL of a DCGM exporter's metrics, for use and health of devices"
    )
    dcgm_metrics: str = setting(
        "auto", help="its metric names: auto, dcgm, dcgm-4.9, or a YAML file that maps them"
    )
    triton_metrics_url: str = setting("", help="URL of Triton's metrics: its GPUs, its queues")
    log_level: str = setting("INFO", help="DEBUG, INFO, WARNING or ERROR")


def engine_grpc(settings: Settings) -> str:
    """Return HOST:PORT of the engine's gRPC, "" if it has none; raises Invalid."""
    given = settings.engine_grpc
    if given == "none":
        return ""
    if not given:
        parts = urlsplit(settings.engine_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        return f"[{host}]:{port + 1}" if ":" in host else f"{host}:{port + 1}"
    host, _, digits = given.rpartition(":")
    if not (host and digits.isdigit() and 0 < int(digits) < 65536):
        raise Invalid(f"--engine-grpc {given!r} is no address.", hint="Use HOST:PORT, or none.")
    return given


def check(settings: Settings) -> None:
    """Refuse settings that cannot work; raises Invalid."""
    engine_grpc(settings)
    check_name("cluster", settings.cluster)
    for flag in ("engine_url", "ray_dashboard_url"):
        _check_http(flag, getattr(settings, flag))
    _check_inventory(settings)
    _check_kubernetes(settings)
    check_url(settings.control_plane_url)
    if settings.ca_pin:
        check_pin(settings.ca_pin)
    connect_to(settings)
    if not 0 <= settings.calibrate_s <= 60:
        raise Invalid(f"--calibrate-s {settings.calibrate_s:g}: use 0 (not at all) to 60.")
    if settings.calibrate_latency_ms < 1:
        raise Invalid(f"--calibrate-latency-ms {settings.calibrate_latency_ms}: use 1 or more.")
    if settings.scrub_days < 0:
        raise Invalid(f"--scrub-days {settings.scrub_days}: use 0 (never) or more.")
    if not 1 <= settings.reverse_idle <= 64:
        raise Invalid(f"--reverse-idle {settings.reverse_idle}: use 1 to 64.")
    if settings.connectivity == "dial":
        _check_dialled(settings)
    elif settings.advertise_url:
        raise Invalid(
            "--advertise-url makes no sense with --connectivity=reverse.",
            hint="Routers dial nothing then: leave it out.",
        )
    if settings.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Invalid(f"--log-level {settings.log_level!r}: use DEBUG, INFO, WARNING or ERROR.")


def _check_http(flag: str, value: str) -> None:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        name = flag.replace("_", "-")
        raise Invalid(f"--{name} {value!r} is no URL.", hint="Use http://HOST:PORT.")


def _check_inventory(settings: Settings) -> None:
    for url in settings.dcgm_url:
        _check_http("dcgm_url", url)
    if settings.triton_metrics_url:
        _check_http("triton_metrics_url", settings.triton_metrics_url)
    tolerations(settings)
    if settings.inventory == "declared" and not settings.inventory_file:
        raise Invalid("--inventory=declared needs --inventory-file.")


def _check_kubernetes(settings: Settings) -> None:
    if not runs_on_kubernetes(settings):
        return
    for flag in ("kube_engine_image", "kube_models_claim"):
        if not getattr(settings, flag):
            name = flag.replace("_", "-")
            hint = "docs/kubernetes.md tells what it is for."
            raise Invalid(f"--engine={settings.engine} needs --{name}.", hint=hint)
    path = settings.kube_models_path
    if path and not is_safe_path(path):
        raise Invalid(f"--kube-models-path {path!r} must be a relative path without '..'.")
    for flag in ("kube_engine_cpu", "kube_engine_memory"):
        value = getattr(settings, flag)
        if not quantity(value) > 0:
            name = flag.replace("_", "-")
            raise Invalid(f"--{name} {value!r} is no quantity.", hint="Write 2, 500m or 8Gi.")


def runs_on_kubernetes(settings: Settings) -> bool:
    """Return whether this agent runs its engines as workloads of Kubernetes."""
    return settings.engine in ("triton-kubernetes", "kuberay")


def _check_dialled(settings: Settings) -> None:
    url = urlsplit(settings.advertise_url)
    if settings.advertise_url and (url.scheme != "https" or not url.netloc):
        raise Invalid(
            f"--advertise-url {settings.advertise_url!r} is no URL of a gateway.",
            hint="Use https://HOST:PORT: gateways speak TLS alone.",
        )
    if not settings.advertise_url and settings.listen.rpartition(":")[0] in _WILDCARDS:
        raise Invalid(
            f"routers cannot dial {settings.listen}.",
            hint="Give --advertise-url with the URL by which they reach this gateway.",
        )


def connect_to(settings: Settings) -> dict[str, str]:
    """Return which address to dial instead of which; raises Invalid."""
    found = {}
    for entry in settings.connect_to:
        advertised, separator, dialled = entry.partition("=")
        if not (separator and ":" in advertised and ":" in dialled):
            raise Invalid(f"--connect-to {entry!r}: use HOST:PORT=HOST:PORT.")
        found[advertised] = dialled
    return found


def contact(settings: Settings) -> Contact:
    """Return how to reach the control plane's open routes."""
    path = settings.join_token_file
    return Contact(
        url=settings.control_plane_url, pin=settings.ca_pin, token_file=Path(path) if path else None
    )


def state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Return where the agent keeps what it must not lose (XDG base directory specification)."""
    if settings.state_dir:
        return Path(settings.state_dir).absolute()
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = Path(base).expanduser() / "inference-federation"
    return folder / f"agent-{settings.cluster}"


def made_state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Return the same, and make it if it is not there; raises Unavailable."""
    path = state_directory(settings, environ)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(f"cannot use the state directory {path}: {error.strerror}.") from None
    return path


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


def tolerations(settings: Settings) -> tuple[Toleration, ...]:
    """Return the taints that our workloads on Kubernetes bear; raises Invalid."""
    return (*GPU_TOLERATIONS, *map(toleration, settings.kube_toleration))


def publishers(settings: Settings) -> Publishers:
    """Return whose signatures the operator demands; raises Invalid."""
    path = settings.publisher_keys
    return parse_publishers(read_secret(path, "publisher-keys"), path) if path else Publishers()


def advertised(settings: Settings, address: tuple[str, int] | None) -> str:
    """Return the URL by which routers reach the gateway, which listens on `address`; "" if they
    do not dial it."""
    if address is None:
        return ""
    if settings.advertise_url:
        return settings.advertise_url.rstrip("/")
    host = settings.listen.rpartition(":")[0]
    return f"https://{host}:{address[1]}"
