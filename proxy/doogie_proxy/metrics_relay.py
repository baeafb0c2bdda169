"""``doogie-proxy metrics``: the proxy's metrics on a TCP port, for a Prometheus that cannot scrape a unix socket.

A process of its own, with no more rights than a client: it has a token that may read metrics, not the engine's socket.
"""

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web

TIMEOUT_S = 10.0


def relay(socket: Path, token_file: Path) -> web.Application:
    """Answers ``GET /metrics`` as the proxy at ``socket`` does; the token is read each time, so that it may change."""

    async def metrics(_request: web.Request) -> web.Response:
        try:
            token = (await asyncio.to_thread(token_file.read_text, encoding="ascii")).strip()
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(socket)), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
                ) as http,
                http.get("http://proxy/metrics", headers={hdrs.AUTHORIZATION: f"Bearer {token}"}) as answer,
            ):
                body = await answer.read()
        except (OSError, ValueError, aiohttp.ClientError) as exc:  # TimeoutError is an OSError
            return web.Response(status=502, text=f"the proxy cannot be asked: {type(exc).__name__}\n")
        if answer.status != 200:
            return web.Response(status=502, text=f"the proxy answers with {answer.status}: see its log\n")
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: answer.headers[hdrs.CONTENT_TYPE]})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app
