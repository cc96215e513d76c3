"""A real control plane in this process, and the peers that speak to it: for tests of its shells."""

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from blake3 import blake3

from federation.app import ControlPlane, control_plane
from federation.contract import codec
from federation.contract.capacity import Capacity, Device
from federation.contract.locations import Frame
from federation.contract.manifest import Chunk, manifest_bytes, pack_chunks
from federation.contract.resources import kind_of
from federation.contract.spiffe import PeerRole, control_plane_dns_name
from federation.contract.sync import Disk
from federation.contract.trust import Revocation, Trust
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    FileEntry,
    Manifest,
    Observed,
    ObservedVersion,
    Report,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.settings import Settings
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, signing_request

PATIENCE_S = 10.0
LOCATION = {"latitude": 53.3, "longitude": -6.2}
MODEL_YAML = """\
name: {name}
runtime: onnx
inputs: [{{name: x, datatype: FP32, shape: [-1, 4]}}]
outputs: [{{name: y, datatype: FP32, shape: [-1, 2]}}]
"""


@asynccontextmanager
async def running(state_dir: Path, **settings: Any) -> AsyncIterator[ControlPlane]:
    """Run a control plane on any free ports, with a memory store unless told otherwise."""
    defaults: dict[str, Any] = {
        "state_dir": str(state_dir),
        "http_listen": "127.0.0.1:0",
        "grpc_listen": "127.0.0.1:0",
        "store": "memory",
    }
    async with control_plane(Settings(**(defaults | settings))) as plane:
        async with asyncio.timeout(PATIENCE_S):
            await plane.loop.ready()
        yield plane


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Operator:
    """A client of the operator API."""

    def __init__(self, session: aiohttp.ClientSession, base: str, token: str) -> None:
        self.session = session
        self.base = base
        self.token = token

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answer:
        """Call the API and read the whole answer."""
        sent = {"Authorization": f"Bearer {self.token}"} | dict(headers or {})
        if body is not None:
            data = json.dumps(body).encode()
        async with (
            asyncio.timeout(PATIENCE_S),
            self.session.request(method, self.base + path, data=data, headers=sent) as response,
        ):
            return Answer(response.status, await response.read(), response.headers)

    async def put(self, kind: str, name: str, spec: object, **metadata: object) -> Answer:
        """PUT a document."""
        document = {
            "apiVersion": "federation/v1",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        found = kind_of(kind)
        plural = found.plural if found else f"{kind.lower()}s"
        return await self.call("PUT", f"/api/v1/{plural}/{name}", document)

    async def register(self, cluster: str, region: str = "eu-west") -> str:
        """Create the region and register the cluster; returns the join token."""
        await self.put("Region", region, {"location": LOCATION})
        body = {"spec": {"region": region}}
        return await self.join_token(f"/api/v1/clusters/{cluster}/register", body)

    async def register_router(self, router: str) -> str:
        """Register the router; returns the join token."""
        return await self.join_token(f"/api/v1/routers/{router}/register", {})

    async def join_token(self, path: str, body: object) -> str:
        """Register something; returns the join token."""
        answer = await self.call("POST", path, body)
        assert answer.status == 201, answer.body
        return str(answer.json["joinToken"])

    async def join(self, token: str, key: str = "") -> Credentials:
        """Join with a token as agents and routers do; returns what they then hold."""
        key = key or new_key()
        body = {"token": token, "csr": signing_request(key)}
        answer = await self.call("POST", "/api/v1/join", body, headers={"Authorization": ""})
        assert answer.status == 200, answer.body
        return joined(answer.json, key)

    async def member(self, name: str, role: PeerRole = PeerRole.CLUSTER) -> Credentials:
        """Register and join; returns what the new member holds."""
        register = self.register if role is PeerRole.CLUSTER else self.register_router
        return await self.join(await register(name))

    async def push(
        self,
        model: str,
        content: bytes = b"weights",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Upload a package of two files and push it."""
        files, manifest, text = package(model, content)
        await self.upload(*files)
        body = {"package": text, "manifest": manifest, "source": "test"}
        return await self.call("POST", f"/api/v1/models/{model}/versions", body, headers=headers)

    async def upload(self, *chunks: bytes) -> Answer:
        """Upload chunks, each in a frame of its own."""
        body = b"".join(framed(chunk) for chunk in chunks)
        return await self.call("POST", "/api/v1/chunks", data=body)


@asynccontextmanager
async def operator(plane: ControlPlane) -> AsyncIterator[Operator]:
    """A client with the admin token."""
    connector = aiohttp.TCPConnector(ssl=roots_of(plane))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Operator(session, f"https://{plane.http_address}", plane.admin.text)


def roots_of(plane: ControlPlane) -> ssl.SSLContext:
    """What a client without a certificate trusts: the roots of this control plane alone."""
    _, trust = plane.keyring.credentials.require()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trust.bundle)
    return context


def joined(answer: Any, key: str) -> Credentials:
    """Return the credentials that an answer to a join or renewal makes."""
    told = answer["trust"]
    credentials = Credentials(None)
    credentials.keep_trust(
        Trust(
            version=told["version"],
            trust_domain=told["trustDomain"],
            roots=tuple(told["roots"]),
            revoked=tuple(Revocation(**one) for one in told["revoked"]),
            release_keys=tuple(told["releaseKeys"]),
        )
    )
    credentials.install(answer["certificate"], key)
    return credentials


def framed(chunk: bytes) -> bytes:
    """Return a chunk as it is uploaded, not encoded."""
    head = Frame(digest=blake3(chunk).digest(), length=len(chunk), stored=len(chunk))
    return head.pack() + chunk


def package(model: str, content: bytes) -> tuple[list[bytes], Any, str]:
    """Return the files, each of one chunk, the manifest and the model.yaml of a small package."""
    text = MODEL_YAML.format(name=model)
    named = {"model.onnx": content, "model.yaml": text.encode()}
    entries = tuple(
        FileEntry(
            path=path,
            size=len(data),
            blake3=blake3(data).hexdigest(),
            sha256=hashlib.sha256(data).hexdigest(),
            chunks=pack_chunks([Chunk(blake3(data).digest(), len(data))]),
        )
        for path, data in sorted(named.items())
    )
    manifest = json.loads(manifest_bytes(Manifest(model=model, files=entries)))
    return list(named.values()), manifest, text


class Peer:
    """One end of a stream: sends messages, and waits for those of a kind."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, message: object) -> None:
        """Send one message; that the far end refused the stream before is told by `refusal`."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.call.write(message)

    async def expect(self, kind: str) -> Any:
        """Skip messages until one has `kind` as its body, and return that body."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF, f"the stream ended before a {kind}"
                if message.WhichOneof("body") == kind:
                    return getattr(message, kind)

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream; returns its status and details."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return await self.call.code(), await self.call.details()


@asynccontextmanager
async def stream(
    plane: ControlPlane, service: str, credentials: Credentials
) -> AsyncIterator[Peer]:
    """Open a stream of "agent" or "router" with a certificate."""
    domain = plane.keyring.identity.trust_domain
    async with stream_to(plane.grpc_address, service, credentials, domain=domain) as peer:
        yield peer


@asynccontextmanager
async def stream_to(
    address: str, service: str, credentials: Credentials, *, domain: str = "federation.internal"
) -> AsyncIterator[Peer]:
    """Open a stream of "agent" or "router" to a control plane that may be another process."""
    server = control_plane_dns_name(domain)
    async with connect(address, credentials.channel_credentials(), server) as channel:
        call: Any
        if service == "agent":
            call = rpc.AgentServiceStub(channel).Connect()
        else:
            call = rpc.RouterServiceStub(channel).Watch()
        try:
            yield Peer(call)
        finally:
            call.cancel()


def agent_hello(
    cluster: str,
    *,
    instance: str = "i-1",
    url: str = "",
    connectivity: "pb.Connectivity.ValueType" = pb.CONNECTIVITY_DIAL,
) -> pb.AgentMessage:
    """Return an agent's first message."""
    return pb.AgentMessage(
        hello=pb.AgentHello(
            cluster=cluster,
            instance=instance,
            engine=pb.ENGINE_KIND_TRITON,
            url=url,
            connectivity=connectivity,
        )
    )


def agent_report(
    cluster: str,
    epoch: int,
    sequence: int,
    *,
    gpus: int = 1,
    generation: int = 0,
    versions: tuple[ObservedVersion, ...] = (),
    disk: Disk | None = None,
) -> pb.AgentMessage:
    """Return a report of a cluster with some GPUs and a ready engine."""
    devices = tuple(
        Device(id=str(n), vendor="nvidia", product="L40S", memory_mib=46_000) for n in range(gpus)
    )
    engine = EngineStatus(kind=EngineKind.TRITON, version="2.60", ready=True)
    report = Report(
        cluster=cluster,
        epoch=epoch,
        sequence=sequence,
        capacity=Capacity(devices=devices),
        observed=Observed(observed_generation=generation, engine=engine, versions=versions),
        url="https://127.0.0.1:7500",
        disk=disk or Disk(),
    )
    return pb.AgentMessage(report=codec.report_to_proto(report))


def router_hello(
    name: str, *, instance: str = "i-1", held: int = 0, reverse: str = ""
) -> pb.RouterMessage:
    """Return a router's first message."""
    hello = pb.RouterHello(
        name=name,
        instance=instance,
        url="http://127.0.0.1:7400",
        snapshot_version=held,
        reverse_address=reverse,
    )
    return pb.RouterMessage(hello=hello)
