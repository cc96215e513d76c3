"""First contact, against real TLS."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from federation.cli.checks.contact import clock_skew, contact, told_at
from federation.cli.checks.finding import Finding, Verdict
from federation.contract.spiffe import PeerRole
from federation.identity.authority import Authority
from tests.pki import credentials_for, make_authority

_NOW = datetime(2026, 5, 1, tzinfo=UTC)


@contextlib.contextmanager
def _control_plane(authority: Authority, tls: ssl.SSLContext) -> Iterator[str]:
    told = {
        "trustDomain": authority.trust_domain,
        "version": 1,
        "roots": [root.pem for root in authority.roots.values()],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _tls(authority: Authority, role: PeerRole = PeerRole.CONTROL_PLANE) -> ssl.SSLContext:
    return credentials_for(authority, role, "main").server_context(demand_clients=False)


def _verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in findings}


def _now() -> datetime:
    return datetime.now(UTC)


def test_all_is_well_with_the_pinned_control_plane(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    (root,) = authority.roots.values()
    with _control_plane(authority, _tls(authority)) as url:
        found = contact(url, grpc=url.removeprefix("https://"), pin=root.pin, now=_now())
        assert (told_at(url) or _NOW) > _NOW
    assert set(_verdicts(found).values()) == {Verdict.OK}, found
    assert len(found) == 5


def test_another_root_ends_the_examination(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with _control_plane(authority, _tls(authority)) as url:
        found = contact(url, grpc="", pin="sha256:" + "0" * 64, now=_now())
        unpinned = contact(url, grpc="", pin="", now=_now())
    assert _verdicts(found) == {"control plane": Verdict.OK, "pin": Verdict.FAILED}
    assert _verdicts(unpinned)["pin"] is Verdict.WARNING


def test_who_cannot_prove_to_be_the_control_plane_is_found_out(tmp_path: Path) -> None:
    """It tells the right root, but its own certificate is a router's."""
    authority = make_authority(tmp_path)
    (root,) = authority.roots.values()
    with _control_plane(authority, _tls(authority, PeerRole.ROUTER)) as url:
        found = contact(url, grpc="", pin=root.pin, now=_now())
    assert _verdicts(found)["certificate"] is Verdict.FAILED


def test_ports_that_refuse_are_told(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with _control_plane(authority, _tls(authority)) as url:
        found = contact(url, grpc="127.0.0.1:1", pin="", now=_now())
    assert _verdicts(found)["port for streams"] is Verdict.FAILED
    assert _verdicts(contact(url, grpc="", pin="", now=_now())) == {"control plane": Verdict.FAILED}
    assert told_at(url) is None
    assert _verdicts(contact("http://x", grpc="", pin="", now=_now())) == {
        "control plane": Verdict.FAILED
    }


@pytest.mark.parametrize(
    ("skew_s", "verdict"),
    [(0, Verdict.OK), (-2, Verdict.OK), (7, Verdict.WARNING), (-90, Verdict.FAILED)],
)
def test_clocks_may_differ_a_little(skew_s: float, verdict: Verdict) -> None:
    assert clock_skew(_NOW, _NOW + timedelta(seconds=skew_s)).verdict is verdict
    assert clock_skew(None, _NOW).verdict is Verdict.WARNING
