"""What the proxies are loaded with: loads, their requests, and the certificate that clients see.

Input: a scratch folder. Output: files in it, and for each load how the client is called.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.router.peers import KEY

STREAMS = 50


@dataclass(frozen=True, slots=True)
class Load:
    """How clients ask. `kind`: "closed" keeps its connections, "each" makes one for each request,
    "sse" asks once and counts events."""

    kind: str
    connections: int
    head: str = "small"
    body: str = "small"
    tls: bool = False


LOADS = {
    "small-1": Load("closed", 1),
    "small-16": Load("closed", 16),
    "small-16-new": Load("closed", 16, head="small-new"),
    "up-1m": Load("closed", 8, body="big"),
    "down-1m": Load("closed", 8, head="big", body="tiny"),
    "sse": Load("sse", STREAMS, head="text", body="text"),
    "tls-1": Load("closed", 1, tls=True),
    "tls-16": Load("closed", 16, tls=True),
    "tls-new": Load("each", 1, tls=True),
}


def write_requests(folder: Path) -> None:
    """Write heads (without their length) and bodies; `new` has another request id each time."""
    numbers = ",".join(f"0.{i * 7919 % 10000:04d}" for i in range(128))
    tensor = f'{{"name":"INPUT0","shape":[1,128],"datatype":"FP32","data":[{numbers}]}}'
    bodies = {
        "small": b'{"id":"bench","inputs":[' + tensor.encode() + b"]}",
        "tiny": b"{}",
        "big": b"\1" * (1 << 20),
        "text": b'{"text_input": "hello", "max_tokens": 40}',
    }
    paths = {
        "small": "/v2/models/m/versions/1/infer",
        "big": "/v2/models/big/versions/1/infer",
        "text": "/v2/models/text/versions/1/generate_stream",
    }
    for name, body in bodies.items():
        (folder / f"{name}.body").write_bytes(body)
    for name, path in paths.items():
        for more, extra in (("", ""), ("-new", "x-request-id: bench-@@@@@@@@@@\r\n")):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Accept: */*\r\nUser-Agent: bench\r\nAuthorization: Bearer {KEY}\r\n{extra}"
            )
            (folder / f"{name}{more}.head").write_text(head)


def write_certificate(folder: Path) -> None:
    """Write a P-256 certificate of a day for 127.0.0.1: tls.crt, tls.key, and both in tls.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begins = datetime.now(UTC) - timedelta(minutes=5)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = {"crt": certificate, "key": secret, "pem": certificate + secret}
    for ending, content in files.items():
        (folder / f"tls.{ending}").write_bytes(content)
