"""What is fuzzed: every parser of bytes that a stranger, or a peer that was taken over, sends.

Input: bytes. Output: nothing, or a FederationError; any other exception is a finding, and so is an
input that takes more than a second. Some targets also compare two readers of the same bytes.
"""

import contextlib
import json
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError, Message

from edge_agent.serving import sse as engine_sse
from federation.chunking import cuts, cutter, encoding
from federation.chunking.reader import Reader
from federation.contract import codec, codec_trust, manifest, names, package, spiffe, strict_yaml
from federation.contract.errors import FederationError
from federation.contract.resources import ClusterSpec
from federation.contract.v1 import federation_pb2 as pb
from federation.identity import tokens
from federation.relay import paths
from federation.relay.errors import render_error
from federation.relay.http1 import chunks, heads
from federation.trust import keys
from router.geo import Locator
from router.request.body import Body, openai_model
from router.request.sse import WholeEvents
from tests.fuzz import http2, readers, seeds

TOO_LONG_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, what it is fed at first, and the most that it is ever given in production."""

    name: str
    parse: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    max_bytes: int

    def __call__(self, data: bytes) -> None:
        """Parse; raises whatever is a finding."""
        started_s = time.thread_time()
        with contextlib.suppress(FederationError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cryptography, on certificates that it reads still
            self.parse(data)
        took_s = time.thread_time() - started_s
        if took_s > TOO_LONG_S:
            raise AssertionError(f"{self.name}: {len(data)} bytes took {took_s:.1f} s")


def request_target(data: bytes) -> None:
    """The method and the target of a request; an error must render, too."""
    method, _, raw = data.decode("latin-1").partition(" ")
    try:
        target = paths.parse_target(method, raw)
    except FederationError as error:
        render_error(raw, error)
        raise
    if target.model and "@" not in target.model:
        assert ".." not in target.model
        assert "/" not in paths.gateway_path(paths.InferenceVerb.METADATA, target.model, 1)[11:-11]


def openai_body(data: bytes) -> None:
    """The model of an OpenAI body: Python's reader, which sees each pair, must agree."""
    model = openai_model(Body(data), {})
    pairs: list[list[tuple[str, Any]]] = []
    try:
        json.loads(data.decode(), object_pairs_hook=lambda found: pairs.append(found))
    except (ValueError, RecursionError):
        return  # what the router does not read, it does not check
    assert [value for key, value in pairs[-1] if key == "model"] == [model]


def sse_events(data: bytes) -> None:
    """Streams of events, cut where the first byte says; nothing is lost or added."""
    step = data[0] + 1 if data else 1
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    whole, reader = WholeEvents(), engine_sse.EventReader()
    passed = [whole.feed(piece) for piece in pieces]
    assert b"".join(passed) + whole.rest() == data
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")) for piece in passed if piece)
    for piece in pieces:
        reader.feed(piece)


def yaml_documents(data: bytes) -> None:
    """What `fed apply` and the settings read."""
    for document in strict_yaml.load_documents(data.decode(errors="replace"), source="x"):
        document.convert(ClusterSpec)


def name_texts(data: bytes) -> None:
    """Names and references of all kinds."""
    text = data.decode(errors="surrogateescape")
    for check in (lambda t: names.check_name("x", t), names.check_model_name):
        with contextlib.suppress(FederationError):
            assert check(text).isascii()
    names.split_reference(text)
    names.did_you_mean(text, ("alpha", "beta"))


_MESSAGES: tuple[tuple[type[Message], Callable[[Any], object]], ...] = (
    (pb.Report, codec.report_from_proto),
    (pb.Assignment, codec.assignment_from_proto),
    (pb.Snapshot, codec.snapshot_from_proto),
    (pb.Trust, codec_trust.trust_from_proto),
    (pb.RouterAddresses, codec_trust.routers_from_proto),
)


def wire_messages(data: bytes) -> None:
    """What peers send: the first byte chooses the message. gRPC itself refuses what is none."""
    kind, decode = _MESSAGES[data[0] % len(_MESSAGES) if data else 0]
    message = kind()
    try:
        message.ParseFromString(data[1:])
    except DecodeError:
        return
    decoded = decode(message)
    if (problems := getattr(decoded, "problems", None)) is not None:
        list(problems())


def spiffe_uri(data: bytes) -> None:
    """Identities: what is accepted is canonical."""
    text = data.decode(errors="surrogateescape")
    assert spiffe.parse_uri(text).uri == text


def certificate(data: bytes) -> None:
    """Certificates: as PEM texts, and as DER that the fuzzer reaches into."""
    text = data.decode(errors="surrogateescape")
    if not text.startswith("-----BEGIN"):
        text = ssl.DER_cert_to_PEM_cert(data)
    keys.split_pem(text)
    with contextlib.suppress(FederationError):
        keys.trust_domain_of(text)
    keys.facts_of(text)


def bearer_token(data: bytes) -> None:
    """Tokens: the secret never shows."""
    text = data.decode(errors="surrogateescape")
    token = tokens.parse(text)
    assert token.text not in repr(token)


@cache
def _locator() -> Locator:
    return Locator(trusted_proxies=("10.0.0.0/8", "fd00::/8"))


def forwarded_for(data: bytes) -> None:
    """The way that a request claims to have come; nobody before the last stranger is believed."""
    peer, *lines = data.decode("latin-1").split("\n")
    locator = _locator()
    address = locator.client_address(peer, lines)
    locator._locate(address)
    assert locator.client_address("203.0.113.9", lines) == "203.0.113.9"


def package_files(data: bytes) -> None:
    """A package's model.yaml and manifest; paths stay inside."""
    with contextlib.suppress(FederationError):
        for entry in manifest.parse_manifest(data).files:
            assert not entry.path.startswith("/")
            assert ".." not in entry.path.split("/")
    package.parse_package(data.decode(errors="replace"))


def tensors_of(name: str) -> Callable[[bytes], None]:
    """Where the tensors of a file with that name lie: whatever is found, its chunks make it up."""

    def parse(data: bytes) -> None:
        layout = cuts.layout_of(name, Reader.over(data))
        assert all(0 <= span.start < span.end <= len(data) for span in layout.spans)
        at = 0
        for region in cutter.regions(len(data), layout.spans):
            assert region.start == at < region.end
            at = region.end
        assert at == len(data)

    return parse


def stored_chunk(data: bytes) -> None:
    """A chunk as a store or a peer sends it; what is accepted has the length that was promised."""
    if len(data) < 3:
        return
    code, length, stored = data[0], int.from_bytes(data[1:3], "little"), data[3:]
    base = b"b" * length if code >= 0x80 else b""
    chunk = encoding.decode(stored, code, length, base)
    assert len(chunk) == length
    assert encoding.decode(encoding.encode(chunk, code, base), code, length, base) == chunk


KIB = 1024


def http_heads(data: bytes) -> None:
    """A connection's bytes: where llhttp or h11 goes on too, it must see the same requests."""
    mine = readers.ours(data)
    for other in (readers.llhttp, readers.with_h11):
        assert (where := readers.disagreement(mine, other(data))) == "", where


def http_answers(data: bytes) -> None:
    """The head of an upstream's answer, and a chunked body."""
    for parse in (heads.parse_response, chunks.ChunkReader().feed):
        with contextlib.suppress(heads.BadMessage):
            parse(data)


TARGETS = {
    target.name: target
    for target in (
        Target("http-heads", http_heads, seeds.HTTP_HEADS, 64 * KIB),
        Target("http-answers", http_answers, seeds.HTTP_ANSWERS, 64 * KIB),
        Target("request-target", request_target, seeds.REQUEST_TARGETS, 8 * KIB),
        Target("openai-body", openai_body, seeds.OPENAI_BODIES, 8 * KIB * KIB),
        Target("sse-events", sse_events, seeds.SSE_EVENTS, 128 * KIB),
        Target("yaml-documents", yaml_documents, seeds.YAML_DOCUMENTS, 64 * KIB),
        Target("names", name_texts, seeds.NAMES, 8 * KIB),
        Target("wire-messages", wire_messages, seeds.WIRE_MESSAGES, KIB * KIB),
        Target("spiffe-uri", spiffe_uri, seeds.SPIFFE_URIS, 8 * KIB),
        Target("certificate", certificate, seeds.CERTIFICATES, 64 * KIB),
        Target("bearer-token", bearer_token, seeds.TOKENS, 8 * KIB),
        Target("forwarded-for", forwarded_for, seeds.FORWARDED, 64 * KIB),
        Target("package-files", package_files, seeds.PACKAGES, 64 * KIB),
        Target("safetensors", tensors_of("m.safetensors"), seeds.SAFETENSORS, 1024 * KIB),
        Target("gguf", tensors_of("m.gguf"), seeds.GGUFS, 1024 * KIB),
        Target("onnx", tensors_of("m.onnx"), seeds.ONNX_MODELS, 256 * KIB),
        Target("http2-frames", http2.frames, tuple(b"\7" + f for f in http2.FRAMES), 64 * KIB),
        Target("header-blocks", http2.header_blocks, http2.BLOCKS, 32 * KIB),
        Target(
            "grpc-messages",
            http2.grpc_messages,
            tuple(b"\7" + m for m in http2.MESSAGES),
            64 * KIB,
        ),
        Target("stored-chunk", stored_chunk, seeds.STORED_CHUNKS, 64 * KIB),
    )
}
