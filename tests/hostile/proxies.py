"""HAProxy and nginx before a router, with their defaults and shared connections.

Input: the port of a door. Output: a proxy on a port of its own. `make setup-proxies` installs both
(Debian's packages); where CI=true on Linux, a proxy that is missing is a failure.
"""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engines.ports import free_block

_HAPROXY = """
global
    maxconn 200
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 2s
    timeout http-request 1s
    timeout server 5s
frontend public
    bind 127.0.0.1:{listen}
    default_backend door
backend door
    server door 127.0.0.1:{port}
"""
_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_header_timeout 1s; client_body_timeout 1s; lingering_close off;
    upstream door {{ server 127.0.0.1:{port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{listen};
        location / {{
            proxy_pass http://door;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@asynccontextmanager
async def haproxy(port: int, folder: Path) -> AsyncIterator[int]:
    """Run HAProxy before `port`; yields its own port."""
    listen, config = free_block(1), folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(listen=listen, port=port))
    async with _running(_found("haproxy"), "-db", "-f", str(config), port=listen):
        yield listen


@asynccontextmanager
async def nginx(port: int, folder: Path) -> AsyncIterator[int]:
    """Run nginx before `port`; yields its own port."""
    listen, config = free_block(1), folder / "nginx.conf"
    config.write_text(_NGINX.format(listen=listen, port=port, folder=folder))
    log = str(folder / "error.log")
    async with _running(_found("nginx"), "-e", log, "-c", str(config), port=listen):
        yield listen


@asynccontextmanager
async def haproxy_h2(port: int, folder: Path) -> AsyncIterator[int]:
    """Run HAProxy before `port` for gRPC; yields its own port."""
    listen, config = free_block(1), folder / "haproxy.cfg"
    text = _HAPROXY.format(listen=listen, port=port)
    text = text.replace(f"bind 127.0.0.1:{listen}", f"bind 127.0.0.1:{listen} proto h2")
    config.write_text(text.replace(f"door 127.0.0.1:{port}", f"door 127.0.0.1:{port} proto h2"))
    async with _running(_found("haproxy"), "-db", "-f", str(config), port=listen):
        yield listen


@asynccontextmanager
async def nginx_h2(port: int, folder: Path) -> AsyncIterator[int]:
    """Run nginx before `port` for gRPC; yields its own port."""
    listen, config = free_block(1), folder / "nginx.conf"
    text = _NGINX.format(listen=listen, port=port, folder=folder)
    text = text.replace(f"listen 127.0.0.1:{listen}", f"listen 127.0.0.1:{listen} http2")
    config.write_text(text.replace("proxy_pass http://door", "grpc_pass grpc://door"))
    log = str(folder / "error.log")
    async with _running(_found("nginx"), "-e", log, "-c", str(config), port=listen):
        yield listen


def _found(name: str) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    if program := shutil.which(name, path=path):
        return program
    reason = f"{name} is not installed; `make setup-proxies` installs it"
    if sys.platform == "linux" and os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def _running(*command: str, port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        await _listening(process, port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    for _ in range(200):
        if process.returncode is not None:
            assert process.stderr is not None
            pytest.fail(f"the proxy ended: {(await process.stderr.read()).decode()[-2000:]}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    pytest.fail("the proxy did not listen within 10 s")
