"""
aiohttp-sse: a set of responses, and ``await response.send`` for each of them.

``python with_aiohttp_sse.py PORT KEEPALIVE``
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from event import Numbers

KEEPALIVE = float(sys.argv[2])

responses: set[EventSourceResponse] = set()
numbers = Numbers()


async def events(request: web.Request) -> web.StreamResponse:
    async with sse_response(request, ping_interval=KEEPALIVE) as response:
        responses.add(response)
        try:
            await response.wait()
        finally:
            responses.discard(response)
    return response


async def publish(request: web.Request) -> web.Response:
    asked = request.query
    interval = float(asked["interval"])
    began = time.monotonic()
    for turn in range(1, int(asked["turns"]) + 1):
        for data in numbers.turn(int(asked["burst"])):
            for response in list(responses):
                await response.send(data)
        await asyncio.sleep(max(0, began + turn * interval - time.monotonic()))
    return web.Response()


if __name__ == "__main__":
    application = web.Application()
    application.router.add_get("/events", events)
    application.router.add_post("/publish", publish)
    web.run_app(
        application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        backlog=1024,
        shutdown_timeout=1,
    )
