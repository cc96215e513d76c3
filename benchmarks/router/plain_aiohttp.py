"""A reverse proxy on aiohttp's server and client: what the layers cost that ours does without.

Usage: python -m benchmarks.router.plain_aiohttp PORT ENGINE_PORT[,ENGINE_PORT...] [CERTIFICATE]
"""

import itertools
import ssl
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

_CUT = {"host", "connection", "keep-alive", "transfer-encoding", "content-length"}


def application(engines: list[int]) -> web.Application:
    """Return the proxy."""
    turns = itertools.cycle(engines)
    sessions: list[aiohttp.ClientSession] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _CUT}
        url = f"http://127.0.0.1:{next(turns)}{request.path_qs}"
        async with sessions[0].request(request.method, url, data=body, headers=headers) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _CUT}
            if answer.content_length is not None:
                whole = await answer.read()
                return web.Response(status=answer.status, headers=kept, body=whole)
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    async def session(_: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        yield
        await sessions.pop().close()

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    app.cleanup_ctx.append(session)
    return app


def main() -> None:
    """Serve until killed."""
    port, engines = int(sys.argv[1]), [int(text) for text in sys.argv[2].split(",")]
    secured = None
    if len(sys.argv) > 3:
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secured.load_cert_chain(sys.argv[3])
    web.run_app(
        application(engines),
        host="127.0.0.1",
        port=port,
        ssl_context=secured,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
