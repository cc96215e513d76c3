import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.cli.client import ApiClient
from federation.cli.tls import (
    Roots,
    connection,
    is_loopback,
    pinned,
    read_roots,
    server_name,
)
from federation.contract.errors import Invalid, PermissionDenied
from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from tests.federation.cli.threaded_plane import Threaded, threaded


def authority(folder: Path, trust_domain: str = "fed.test") -> Authority:
    return Authority(folder, trust_domain=trust_domain, clock=SystemClock())


def pem(made: Authority) -> str:
    return made.roots[made.signing].pem


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with threaded(tmp_path_factory.mktemp("state")) as plane:
        yield plane


def test_the_name_to_prove_comes_from_the_roots(tmp_path: Path) -> None:
    ours = Roots(pem(authority(tmp_path / "ca"))).context()
    assert server_name(ours, "10.0.0.1") == "control-plane.fed.test"
    assert server_name(ssl.create_default_context(), "fed.example.com") == "fed.example.com"


def test_a_pin_chooses_its_root_among_many(tmp_path: Path) -> None:
    one, two = authority(tmp_path / "a"), authority(tmp_path / "b")
    pin = two.roots[two.signing].pin
    bundle = f"junk\n{pem(one)}{pem(two)}"
    assert pinned([bundle], pin).pem == pem(two)
    with pytest.raises(Invalid) as refused:
        pinned([pem(one)], pin)
    assert refused.value.reason == "wrong-ca-pin"
    broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"
    with pytest.raises(Invalid):
        pinned([broken, ""], pin)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", None])
def test_a_file_without_roots_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Invalid, match=r"ca\.pem"):
        read_roots(str(path))
    assert read_roots("") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_control_plane_proves_itself_under_any_address(real: Threaded, host: str) -> None:
    roots = read_roots(str(real.state_dir / "ca.pem"))
    endpoint = real.url.replace("127.0.0.1", host)
    made = connection(endpoint, roots=roots, timeout_s=5)
    made.request("GET", "/healthz")
    assert made.getresponse().read() == b'{"status":"ok"}'
    made.close()


def test_another_federations_control_plane_gets_nothing(real: Threaded, tmp_path: Path) -> None:
    for domain in ("federation.internal", "fed.test"):
        roots = Roots(pem(authority(tmp_path / domain, domain)))
        with (
            ApiClient(real.url, token="secret", roots=roots) as client,
            pytest.raises(PermissionDenied) as refused,
        ):
            client.get("api", "v1", "whoami")
        assert refused.value.reason == "untrusted-certificate"


def test_the_right_root_under_the_wrong_name_gets_nothing(real: Threaded) -> None:
    """A member of the federation is no control plane, although the same root proves it."""
    context = Roots((real.state_dir / "ca.pem").read_text()).context()
    made = connection(real.url, roots=None, timeout_s=5)
    assert isinstance(made, http.client.HTTPSConnection)
    made._tls = context  # type: ignore[attr-defined]
    made._name = "eu-1.cluster.federation.internal"  # type: ignore[attr-defined]
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        made.connect()
    made.close()


def test_the_unverified_call_never_carries_the_token(real: Threaded) -> None:
    with ApiClient(real.url, token="secret", unverified=True) as client:
        assert "token=no" in repr(client)
        assert client.get("api", "v1", "trust")["trustDomain"] == "federation.internal"


def test_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("localhost.evil.example")
    assert not is_loopback("127.evil.example")
    assert not is_loopback("10.0.0.1")
