"""No secret leaks: a federation of real processes is used, abused and asked about everything, at
its most talkative, and then all that it said is searched for the secrets that it holds.

Each secret is looked for whole, without its prefix, and in the forms in which it could travel; of
private keys each line of the PEM. What is shown once is shown nowhere else, and files that hold a
secret are for their owner alone.
"""

import asyncio
import base64
import re
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.contract.spiffe import control_plane_dns_name
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, signing_request
from tests.e2e.small_federation import (
    SmallFederation,
    chat,
    join,
    seen_from_outside,
    small_federation,
)
from tests.fakes.control_plane import Peer, agent_hello, router_hello

ENGINE_TOKEN = "engine-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"
TRUST_DOMAIN = "federation.internal"
FILES = {  # by secret: where it lies, from the federation's root
    "admin token": "control-plane/admin.token",
    "join token of the agent": "agent.token",
    "join token of the router": "router.token",
    "user key": "alice.key",
    "inference key": "acme.key",
    "pepper": "control-plane/pepper",
    "engine token": "engine.token",
}
OF_A_TOKEN = re.compile(r"fed_[a-z]+_[a-z0-9-]+_(.+)")
TABLES = ("table", "wide", "json", "yaml", "name")


@dataclass(frozen=True)
class Secret:
    """A secret, in all forms in which it could travel."""

    name: str
    forms: tuple[str, ...]


def secret(name: str, text: str) -> Secret:
    body = match[1] if (match := OF_A_TOKEN.fullmatch(text)) else text
    raw = [text.encode(), body.encode()]
    if re.fullmatch(r"[0-9a-f]{32,}", body):
        raw.append(bytes.fromhex(body))
    encoded = [base64.b64encode(each).decode().rstrip("=")[:-1] for each in raw]
    return Secret(name, (body, body[::-1], body.encode().hex(), *encoded))


def private_keys(root: Path) -> Iterator[Secret]:
    """Every private key in every file, as the lines of its PEM that are not the same in each."""
    for path in sorted(root.rglob("*")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        for number, body in enumerate(
            re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.+?)-----END", text, re.DOTALL)
        ):
            yield Secret(f"key {number} in {path.relative_to(root)}", tuple(body.split()[1:]))


# ------------------------------------------------------------ a life


async def set_up(made: SmallFederation, session: aiohttp.ClientSession) -> list[Secret]:
    """Register everybody; returns the secrets that only an answer showed, which is not kept."""
    root = made.root
    await made.fed("login", made.api, "--state-dir", str(made.state))
    await made.fed("region", "create", "eu", "--location", "53,-6")
    await made.fed(
        "cluster", "register", "c1", "--region", "eu", "--token-file", f"{root}/agent.token"
    )
    await made.fed("router", "register", "r1", "--token-file", f"{root}/router.token")
    await made.fed("tenant", "create", "acme")
    await made.fed(
        "key", "create", "acme-prod", "--tenant", "acme", "--key-file", f"{root}/acme.key"
    )
    await made.fed("key", "create", "alice", "--role", "viewer", "--key-file", f"{root}/alice.key")
    once = []
    for name, words in (
        ("join token shown by fed", ("cluster", "register", "c2", "--region", "eu")),
        ("router's join token shown by fed", ("router", "register", "r2", "-o", "json")),
        ("inference key shown by fed", ("key", "create", "acme-2", "--tenant", "acme")),
        ("user key shown by fed", ("key", "create", "bob", "--role", "operator", "-o", "yaml")),
        ("rotated key shown by fed", ("key", "rotate", "acme-2")),
    ):
        shown = re.findall(
            r"fed_[a-z]+_[a-z0-9-]+_[A-Za-z0-9_-]{43}", await made.fed(*words, kept=False)
        )
        assert len(set(shown)) == 1, f"{name}: {len(set(shown))} tokens"
        once.append(secret(name, shown[0]))
    pin = re.search(r"sha256:[0-9a-f]{64}", await made.fed("ca", "get"))
    assert pin is not None
    await join(made, pin[0], session)
    return once


def texts_of(root: Path) -> dict[str, str]:
    return {name: (root / path).read_text().strip() for name, path in FILES.items()}


async def use(made: SmallFederation, session: aiohttp.ClientSession, texts: dict[str, str]) -> None:
    """Infer as clients do, rightly and wrongly."""
    url = f"{made.router}/v1/chat/completions"
    good = {"Authorization": f"Bearer {texts['inference key']}"}
    async with asyncio.timeout(60):
        while (await made.call(session, "POST", url, json=chat("hi"), headers=good)).status != 200:
            await asyncio.sleep(0.2)
    await made.call(
        session, "POST", url, json=chat("hi"), headers={"x-api-key": texts["inference key"]}
    )
    for model, words in (("echo", "fail"), ("unknown", "hi")):
        await made.call(session, "POST", url, json=chat(words, model), headers=good)
    await made.call(session, "POST", url, data=b"{", headers=good)
    await made.call(session, "GET", f"{made.router}/v1/models", headers=good)
    for name in texts:
        for head in (
            {"Authorization": f"Bearer {texts[name]}x"},
            {"Authorization": f"Basic {texts[name]}"},
            {"Authorization": texts[name]},
            {"x-api-key": f"{texts[name]}x"},
        ):
            await made.call(session, "POST", url, json=chat("hi"), headers=head)


async def abuse(
    made: SmallFederation, session: aiohttp.ClientSession, texts: dict[str, str]
) -> None:
    """Show every secret at every wrong door of the operator API."""
    everywhere = f"{made.api}/api/v1"
    for text in texts.values():
        for headers in (
            {"Authorization": f"Bearer {text}x"},
            {"Authorization": f"Bearer {text}"},
            {"Authorization": f"Basic {text}"},
            {"Authorization": text},
            {"X-Request-Id": text if text.startswith("fed_") else "mine"},
        ):
            for method, path in (("GET", "keys"), ("PUT", "regions/r"), ("GET", "audit")):
                await made.call(session, method, f"{everywhere}/{path}", headers=headers, ssl=False)
        await made.call(session, "GET", f"{everywhere}/trust?token={text}", ssl=False)
        for body in ({"token": text}, {"token": [text]}, {"tokn": text, "csr": 1}, text):
            await made.call(session, "POST", f"{everywhere}/join", json=body, ssl=False)
        request = {"token": text, "csr": signing_request(new_key())}
        await made.call(session, "POST", f"{everywhere}/join", json=request, ssl=False)
        renewal = {"certificate": text, "csr": text, "proof": text}
        await made.call(session, "POST", f"{everywhere}/renew", json=renewal, ssl=False)
        # What stands in a path is told to whoever sent it, so its answer is not kept; the rest is.
        async with session.get(f"{everywhere}/clusters/{text}", ssl=False) as answer:
            assert answer.status in (401, 404)


async def abuse_streams(made: SmallFederation) -> None:
    """Speak for another with a good certificate, and at the wrong door."""
    server = control_plane_dns_name(TRUST_DOMAIN)
    address = f"127.0.0.1:{made.ports['grpc']}"
    for holder in ("agent", "router"):
        held = Credentials(made.root / holder / "identity").channel_credentials()
        async with connect(address, held, server) as channel:
            doors: list[tuple[Any, Any]] = [
                (rpc.AgentServiceStub(channel).Connect, agent_hello("c2")),
                (rpc.RouterServiceStub(channel).Watch, router_hello("r2")),
            ]
            wrong = doors[holder == "agent"][0]
            for door, hello in doors:
                call = door()
                peer = Peer(call)
                if door is not wrong:  # there it is refused before its hello
                    await peer.send(hello)
                code, details = await peer.refusal()
                assert code.name == "PERMISSION_DENIED", details
                told = f"{details} {await call.trailing_metadata()}"
                made.record.keep(f"gRPC as {holder}", told)


async def ask(made: SmallFederation, session: aiohttp.ClientSession, texts: dict[str, str]) -> None:
    """Ask for everything that can be asked for."""
    kinds = ("regions", "clusters", "models", "deployments", "routers", "tenants", "keys", "events")
    for kind in kinds:
        for form in TABLES:
            await made.fed("get", kind, "-o", form)
    for target in ("cluster/c1", "router/r1", "tenant/acme", "key/acme-prod", "key/alice"):
        await made.fed("describe", target)
        await made.fed("get", target, "-o", "yaml")
    for words in (
        *(("audit", "-o", form) for form in ("table", "wide", "json")),
        *(("audit", *more) for more in (("verify",), ("export", "-"))),
        *(("config", "view", *more) for more in ((), ("--show-origin",))),
        *((verb,) for verb in ("whoami", "doctor", "version", "events")),
        ("ca", "get", "-o", "json"),
        ("route", "explain", "echo"),
        ("cluster", "register", "c1", "--region", "eu"),
        ("key", "create", "alice", "--role", "viewer"),
        ("key", "revoke", "bob"),
        ("--debug", "get", "clusters", "--endpoint", f"{made.api}/wrong"),
        ("--debug", "get", "clusters", "--token-file", f"{made.root}/acme.key"),
        ("get", "clusters", "--token-file", f"{made.state}/pepper"),
    ):
        await made.fed(*words)
    admin = {"Authorization": f"Bearer {texts['admin token']}"}
    for path in ("audit", "events", "keys", "clusters", "routers", "whoami", "audit/head"):
        await made.call(session, "GET", f"{made.api}/api/v1/{path}", headers=admin, ssl=False)
    for path in ("metrics", "openapi.json", "healthz", "readyz", "api/v1/trust"):
        await made.call(session, "GET", f"{made.api}/{path}", ssl=False)
    for process in ("router-admin", "agent-admin"):
        for path in ("metrics", "healthz", "readyz", "table", "explain?model=echo", "nothing"):
            await made.call(session, "GET", f"http://127.0.0.1:{made.ports[process]}/{path}")
    made.record.keep("/proc", seen_from_outside(list(made.processes.values())))


# ------------------------------------------------------------ the search


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.e2e
@pytest.mark.timeout(400)
async def test_no_secret_is_said_anywhere(tmp_path: Path) -> None:
    (tmp_path / "engine.token").write_text(f"{ENGINE_TOKEN}\n")
    (tmp_path / "engine.token").chmod(0o600)
    async with small_federation(tmp_path, ENGINE_TOKEN) as made, client() as session:
        once = await set_up(made, session)
        texts = texts_of(tmp_path)
        await use(made, session, texts)
        await abuse(made, session, texts)
        await abuse_streams(made)
        await ask(made, session, texts)
        made.stop()
        made.record.keep("what the engine was sent", without_its_own(made.heads))
    secrets = [
        *once,
        *(secret(name, text) for name, text in texts.items()),
        *private_keys(tmp_path),
    ]
    check_that_it_would_be_found(made, texts, secrets)
    leaks = {
        f"{each.name} in {place}"
        for each in secrets
        for form in each.forms
        for place in made.record.places_of(form)
    }
    assert leaks == set()
    assert loose_files(tmp_path, secrets) == []


def without_its_own(heads: list[dict[str, str]]) -> str:
    """What the engine was sent, but for the token that it gets on purpose."""
    assert all(head.get("authorization") == f"Bearer {ENGINE_TOKEN}" for head in heads)
    return str([{k: v for k, v in head.items() if k != "authorization"} for head in heads])


def check_that_it_would_be_found(
    made: SmallFederation, texts: dict[str, str], secrets: list[Secret]
) -> None:
    """The search is worth something: there were secrets, and there was something to search."""
    assert {"admin token", "pepper", "user key shown by fed"} <= {each.name for each in secrets}
    keys = [each.name for each in secrets if "identity.pem" in each.name or "/ca/" in each.name]
    assert len(keys) == 3, keys  # the root's, the agent's, the router's
    assert all(len(form) >= 16 for each in secrets for form in each.forms), "too short to tell"
    said = dict(made.record.said)
    for name in ("control-plane", "agent", "router"):
        assert '"level": "debug"' in said[f"log of {name}"]
    assert "entries, as they were written" in said["fed audit verify"]
    assert "join-token-used" in said["fed audit -o json"]
    assert "wrong-peer" in said["fed audit -o json"]
    assert '"cluster/c1"' in said["fed audit -o json"]
    assert "fed_control_plane_denied_total" in said[f"GET {made.api}/metrics 200"]
    statuses = {where.rpartition(" ")[2] for where in said}
    assert {"200", "400", "401", "403", "404", "409"} <= statuses
    kept = len(made.record.said)
    made.record.keep("a leak", f"oops: {texts['user key']}")
    found = {place for s in secrets for f in s.forms for place in made.record.places_of(f)}
    assert "a leak" in found
    del made.record.said[kept:]


def loose_files(root: Path, secrets: list[Secret]) -> list[str]:
    """Files that hold a secret and can be read by others; directories above them do not count."""
    loose = []
    for path in root.rglob("*"):
        if not path.is_file() or not stat.S_IMODE(path.stat().st_mode) & 0o077:
            continue
        held = path.read_bytes()
        loose += [f"{path}: {s.name}" for s in secrets if any(f.encode() in held for f in s.forms)]
    return loose
