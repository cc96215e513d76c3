"""Clients that are not grpcio's, through router and gateway: nghttp2's own, and grpc-js.

They run where they are found: `nghttp` and `h2load` (Debian: nghttp2-client; FED_NGHTTP2 names a
folder with both), and `node` with @grpc/grpc-js (`npm install @grpc/grpc-js`; FED_GRPC_JS names the
node_modules folder that holds it).
"""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from federation.relay.h2.message import enveloped, text_field, varint
from tests.router.grpc.world import INFER, World, eventually, request, world

_HERE = Path(__file__).parent
_TOOLS = os.environ.get("FED_NGHTTP2", "")
_MODULES = os.environ.get("FED_GRPC_JS", "")
_PATH = os.pathsep.join(filter(None, (_TOOLS, os.environ.get("PATH", ""))))


def tool(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"there is no {name} here (Debian: nghttp2-client)")
    return found


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def call_of(w: World, body: Path) -> list[str]:
    """The words that make nghttp and h2load send a call."""
    body.write_bytes(enveloped(request().SerializeToString()))
    headers = ("te: trailers", "content-type: application/grpc")
    return [
        *(word for header in headers for word in ("-H", header)),
        *("-d", str(body), f"http://{w.address}{INFER}"),
    ]


async def test_nghttp_which_sends_before_it_has_heard_of_us(tmp_path: Path) -> None:
    nghttp = tool("nghttp")
    async with world("eu-1") as w:
        said = await run(nghttp, "-nv", "-H", ":method: POST", *call_of(w, tmp_path / "body"))
        assert re.search(r"recv.*grpc-status: 0", said), said
        assert re.search(r"recv.*x-fed-cluster: eu-1", said), said
        assert len(w.seen()) == 1
        await eventually(lambda: w.quiet)


async def test_h2load_with_many_calls_at_once(tmp_path: Path) -> None:
    h2load = tool("h2load")
    async with world("eu-1", "us-1") as w:
        words = call_of(w, tmp_path / "body")
        said = await run(h2load, "-n", "400", "-c", "4", "-m", "25", *words)
        assert "400 succeeded, 0 failed, 0 errored" in said, said
        assert len(w.seen()) == 400
        await eventually(lambda: w.quiet)


async def test_grpc_js() -> None:
    node = shutil.which("node")
    modules = Path(_MODULES or _HERE / "node_modules")
    if node is None or not (modules / "@grpc" / "grpc-js").is_dir():
        pytest.skip("there is no node with @grpc/grpc-js here (npm install @grpc/grpc-js)")
    async with world("eu-1") as w:
        body = request().SerializeToString()
        size = 3 << 20  # zeros that the script adds: a tensor's content, field 7
        large = body + text_field(7, b"")[:-1] + varint(size)
        process = await asyncio.create_subprocess_exec(
            *(node, str(_HERE / "grpc_js.cjs"), w.address, body.hex(), large.hex()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_PATH": str(modules)},
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            async with asyncio.timeout(60):
                told = json.loads(await process.stdout.readline())
                assert told["live"]["code"] == 0
                assert (told["infer"]["code"], told["infer"]["cluster"]) == (0, "eu-1")
                assert told["packed"] == told["infer"]
                assert told["nothing"]["code"] == 3
                assert told["unknown"]["code"] == 12
                assert told["many"] == 300
                assert told["stream"] == {"messages": 60, "code": 0}
                assert told["large"]["code"] == 0
                assert told["large"]["bytes"] > size
                w.clusters["eu-1"].engine.delay_s = 30
                process.stdin.write(b"\n")
                late = json.loads(await process.stdout.readline())
                assert (late["deadline"]["code"], late["cancelled"]["code"]) == (4, 1)
                await eventually(lambda: w.quiet)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]
