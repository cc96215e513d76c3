"""What can be seen without a network: files, their modes, this machine's software and ports.

Input: paths and addresses. Output: findings.
"""

import os
import socket
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit

from federation.cli.checks.finding import Finding, failed, ok, warning

OLDEST_PYTHON = (3, 11)


def python_version(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Look whether this Python can run the federation."""
    told = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return failed("python", told, "Use Python 3.11 or newer.")
    return ok("python", told)


def secret_file(name: str, path: Path) -> Finding:
    """Look whether a secret can be read by this user and by nobody else."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        path.open("rb").close()
    except OSError as error:
        return failed(
            name, f"cannot read {path}: {error.strerror}", "Check the path and its owner."
        )
    if mode & 0o077:
        return failed(name, f"{path} is open to others (mode {mode:o})", f"chmod 600 {path}")
    return ok(name, f"{path} (mode {mode:o})")


def state_directory(path: Path) -> Finding:
    """Look whether a directory can hold an identity: writable, and closed to others."""
    existing = path if path.exists() else _nearest(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        return failed(
            "state directory",
            f"cannot write below {existing}",
            "Choose another --state-dir, or run as its owner.",
        )
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return warning("state directory", f"{path} is open to others", f"chmod 700 {path}")
    return ok("state directory", str(path) if path.exists() else f"{path} can be made")


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def port_free(name: str, address: str) -> Finding:
    """Look whether a process could listen on `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        return failed(name, f"{address!r} is no address", "Use HOST:PORT.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        return failed(
            name, f"{address}: {error.strerror}", "Stop what listens there, or choose another."
        )
    return ok(name, f"{address} is free")


def own_addresses() -> tuple[str, ...]:
    """Return the address by which other machines would reach this one, if it has one.

    Nothing is sent: a datagram socket only looks up the way to a documentation address (RFC 5737).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ()
        address: str = probe.getsockname()[0]
    return () if address.startswith("127.") else (address,)


def engine(url: str, addresses: tuple[str, ...], timeout_s: float = 2.0) -> Finding:
    """Look whether the engine answers here, and nowhere that other machines reach.

    Engines have no authentication: whoever reaches their port controls them.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not _answers(host, port, timeout_s):
        return failed("engine", f"nothing answers at {url}", "Start the engine first.")
    exposed = [a for a in addresses if _answers(a, port, timeout_s)]
    if exposed:
        return failed(
            "engine",
            f"it also answers at {exposed[0]}:{port}, without any authentication",
            "Make it listen on 127.0.0.1 (Triton: --http-address, --grpc-address; Ray Serve: "
            "http_options.host), or close the port to other machines.",
        )
    return ok("engine", f"answers at {url} only")


def _answers(host: str, port: int, timeout_s: float) -> bool:
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True
