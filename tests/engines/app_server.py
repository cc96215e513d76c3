"""Puts an `edge_agent.serving.app.App` on a real socket, as Ray Serve would."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from edge_agent.serving.app import App


@contextlib.asynccontextmanager
async def serve_app(app: App) -> AsyncIterator[str]:
    """Yield the base URL of the running app; a client that leaves cancels its request."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = await app.handle(request.method, request.path, headers, await request.read())
        if isinstance(reply.body, bytes):
            return web.Response(body=reply.body, status=reply.status, headers=dict(reply.headers))
        response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
        await response.prepare(request)
        async for chunk in reply.body:
            await response.write(chunk)
        return response

    server = web.Application(client_max_size=64 << 20)
    server.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
