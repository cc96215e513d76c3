"""Routers as processes of their own."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.engines.ports import free_block


class Process:
    """A router as a process."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, admin: str) -> None:
        self.process = process
        self.url = url
        self.admin = admin


async def launch(*argv: str) -> asyncio.subprocess.Process:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FED_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router", *argv), stderr=asyncio.subprocess.PIPE, env=environ
    )


async def finished(*argv: str) -> tuple[int | None, str]:
    process = await launch(*argv)
    async with asyncio.timeout(40):
        _, stderr = await process.communicate()
    return process.returncode, stderr.decode()


@asynccontextmanager
async def router_process(*argv: str, until: int = 200) -> AsyncIterator[Process]:
    public = free_block(2)
    admin = public + 1
    process = await launch(
        *("--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{admin}", *argv)
    )
    running = Process(process, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}")
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with session.get(running.admin + "/readyz") as response:
                        status = response.status
                    if status == until:
                        if until != 200:  # where it is ready, it says that it listens, too
                            await (await session.get(running.url + "/v2/health/live")).read()
                        break
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def infer(url: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + "/v2/models/digits/infer", data=b"{}") as response,
    ):
        return response.status, (await response.json()).get("by", "")
