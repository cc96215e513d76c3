"""Where the fuzzers begin: small sound inputs, and the findings of the past."""

import base64
import json

from benchmarks.chunking import files
from federation.chunking.encoding import encode
from federation.contract.v1 import federation_pb2 as pb

REQUEST_TARGETS = (
    b"POST /v2/models/m/versions/1/infer",
    b"GET /v1/models/name%40champion?x=%2e%2e",
    b"POST /v1/chat/completions",
    b"GET /v2/health/ready",
    b"POST //evil/../v2/%2e%2e/repository/index",
    b"OPTIONS *",
)
OPENAI_BODIES = (
    b'{"model": "text", "messages": [{"role": "user", "content": "hi"}]}',
    b'{"model": "text", "mod\\u0065l": "other"}',
    b'{"x": {"model": [1, 2.5e3, null, true]}, "model": "a@1"}',
    b'{"model": "\\ud83d\\ude00", "x\\"model": "\\\\"}',
)
SSE_EVENTS = (
    b'\x07data: {"text_output": "a"}\n\ndata: [DONE]\n\n',
    b"\x01event: x\r\ndata: a\r\ndata: b\r\n\r\n: note\r\n\r\n",
    b"\x02data: a\r\rdata: b\r\r",
    b"\x10data: \xff\xfe\n\n",
)
YAML_DOCUMENTS = (
    b"kind: Cluster\nname: eu-1\nregion: eu\n---\nname: b\nregion: us\n",
    b"region: eu\nlabels: {a: b, c: [1, 2, *x]}\nx: &x 1\n",
    b"? [a, b]\n: c\n? {d: e}\n: f\n",
    b"<<: {a: 1}\na: !!python/object:os.system x\n",
    b"a: 2001-01-01\nb: 0x1F\nc: 1_000\nd: .inf\ne: ~\nf: 1:30\n",
    b"- &a [*a, *a]\n",
)
NAMES = (b"eu-west-1", b"model.v1_a", b"model@champion", b"..", b"a--b", "é".encode())
SPIFFE_URIS = (
    b"spiffe://federation.internal/cluster/eu-1",
    b"spiffe://a/control-plane/main",
    b"spiffe://a..b/router/x/../y?q#f",
)
TOKENS = (
    b"fed_join_eu-1_" + b"A" * 43,
    b"fed_key_0123456789abcdef_" + b"-" * 43,
    b"fed_user_x_" + b"_" * 43,
    b"Bearer eyJhbGciOiJub25lIn0.e30.",
)
FORWARDED = (
    b"10.0.0.1\n203.0.113.5, 10.1.2.3",
    b"fd00::1\n[2001:db8::1]:443\n::ffff:10.0.0.1, 10.0.0.2:80",
    b"10.0.0.1\nunknown, _hidden, fe80::1%eth0, ,,",
    b"10.0.0.1\n1" + b"0" * 5000 + b".1.1.1",
    b"fd00::1\n::f%fff:\x00\x00",
)
PACKAGES = (
    b"name: filetype\nruntime: onnx\nprotocol: tensor\n"
    b"inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]\n"
    b"outputs: [{name: y, datatype: FP32, shape: [-1]}]\n",
    b"name: poet\nruntime: ray-serve\nprotocol: text\nimport_path: my_app:app\nfile: a/../b\n",
    json.dumps(
        {
            "model": "m",
            "files": [
                {
                    "path": "a/b",
                    "size": 1,
                    "blake3": "0" * 64,
                    "sha256": "0" * 64,
                    "chunks": base64.b64encode(b"d" * 32 + b"\x01\0\0\0").decode(),
                }
            ],
        }
    ).encode(),
)
WIRE_MESSAGES = (
    b"\x00"
    + pb.Report(
        cluster="eu-1",
        epoch=3,
        sequence=4,
        capacity=pb.Capacity(observed_at_unix_ms=1 << 60, devices=[pb.Device(id="0")]),
        observed=pb.Observed(versions=[pb.ObservedVersion(model="m", version=1)]),
    ).SerializeToString(),
    b"\x01" + pb.Assignment(generation=2).SerializeToString(),
    b"\x02"
    + pb.Snapshot(
        version=1,
        models=[pb.ModelRoute(name="m", default_version=1, aliases={"a": 1})],
        endpoints=[pb.Endpoint(cluster="c", url="https://h:1", location=pb.Location(latitude=1))],
    ).SerializeToString(),
    b"\x03" + pb.Trust(version=1, trust_domain="d").SerializeToString(),
    b"\x04" + pb.RouterAddresses().SerializeToString(),
)
# A leaf of 1 day for spiffe://fed.test/cluster/eu-1, long expired; its key is thrown away.
_LEAF = """
MIIBvTCCAWOgAwIBAgILAZzla3drslZw5YEwCgYIKoZIzj0EAwIwHTEbMBkGA1UEAwwSZmVkLnRlc3Qgcm9vdC0wMDAxMB4X
DTI2MTEyMjIyMzQzMloXDTI2MTEyMzIyMzUzMlowADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEuMoCxe7Hbx4HuBS3Ep
UJF2lVa9N1K/bwyqUbz7x7J9fyX9b91Av0a2rIx0yC0gbzO/NgcYM2gREk+F8beB2IijgaYwgaMwDAYDVR0TAQH/BAIwADAO
BgNVHQ8BAf8EBAMCB4AwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsGAQUFBwMCMB8GA1UdIwQYMBaAFF4HL61BIGfHDSw0yXFc
YmG0uHOlMEMGA1UdEQEB/wQ5MDeGHnNwaWZmZTovL2ZlZC50ZXN0L2NsdXN0ZXIvZXUtMYIVZXUtMS5jbHVzdGVyLmZlZC50
ZXN0MAoGCCqGSM49BAMCA0gAMEUCIQCoSzu5dwdVxBWdNHfP71DBaK28CD5whJdx8t6rATI4JQIgEvAS0UPeQkispSbl7tan
AD3wLqtNflWr9AnaNyIozmk=
"""
CERTIFICATES = (base64.b64decode(_LEAF), b"-----BEGIN CERTIFICATE-----\n" + _LEAF.encode())
_TENSORS = (
    files.Tensor("a", "BF16", (2048, 2), b"abcd" * 2048),
    files.Tensor("b", "F32", (8,), b"1234" * 8),
)
SAFETENSORS = (files.safetensors(_TENSORS), files.safetensors(()))
GGUFS = (files.gguf(_TENSORS, "name", 9), files.gguf((), "", 0))
ONNX_MODELS = (
    files.onnx([files.onnx_tensor(tensor) for tensor in _TENSORS], [files.onnx_node("n")]),
    files.external(_TENSORS, "m.onnx")["m.onnx"],
    files.onnx([], [files.onnx_node("n", [files.block(6, files.block(1, files.onnx_node("i")))])]),
)
# Code, length (2 bytes), stored bytes.
STORED_CHUNKS = tuple(
    bytes((code, 5, 1)) + encode(b"0123456789" * 26 + b"x", code, b"b" * 261 if code > 128 else b"")
    for code in (0, 1, 2, 4, 0x82, 0x84)
)

HTTP_HEADS = (
    b"POST /v2/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
)
HTTP_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 503\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
)
