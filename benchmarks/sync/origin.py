"""The smallest real origin: documents and packs by range over TLS 1.3, one port for each region.

Run as `python -m benchmarks.sync.origin CONFIG`, a JSON file. Output: on stdout a line with the
ports; then for each line on stdin the bytes that each region has got so far. Each region has a link
of its own, so and so many bytes per second, as if the origin were far away.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from federation.relay.server import ServerLimits, listen, make_runner
from federation.trust.credentials import Credentials

BLOCK = 128 << 10


class Link:
    """A region's way to the origin."""

    def __init__(self, bytes_per_s: float) -> None:
        self.sent = 0
        self.requests = 0
        self._rate = bytes_per_s
        self._free_at = 0.0

    async def pass_on(self, count: int) -> None:
        self.sent += count
        if self._rate:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.02) + count / self._rate
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)


def application(www: Path, link: Link) -> web.Application:
    async def answer(request: web.Request) -> web.StreamResponse:
        path = www / request.path.lstrip("/")
        if not path.is_file():
            return web.Response(status=404)
        link.requests += 1
        size, asked = path.stat().st_size, request.http_range
        start, end = asked.start or 0, min(asked.stop or size, size)
        headers = {"Content-Length": str(end - start)}
        if asked.start is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = 206 if asked.start is not None else 200
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        with path.open("rb") as file:
            file.seek(start)
            while start < end and (block := file.read(min(BLOCK, end - start))):
                await response.write(block)
                await link.pass_on(len(block))
                start += len(block)
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


async def main(config: dict[str, Any]) -> None:
    credentials = Credentials(Path(str(config["credentials"])))
    rate = float(str(config["bytes_per_s"]))
    links = {name: Link(rate) for name in config["regions"]}
    ports, runners = {}, []
    for name, link in links.items():
        runner = make_runner(application(Path(str(config["www"])), link), ServerLimits())
        context = credentials.server_context(demand_clients=False)
        _, ports[name] = await listen(runner, "127.0.0.1:0", context)
        runners.append(runner)
    print(json.dumps(ports), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        told = {name: [link.sent, link.requests] for name, link in links.items()}
        print(json.dumps(told), flush=True)
    for runner in runners:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
