"""
sse-starlette on uvicorn with uvloop: a queue for each subscriber, as in its documentation.

``python with_sse_starlette.py PORT KEEPALIVE``
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import uvicorn
from event import Numbers
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEEPALIVE = float(sys.argv[2])

queues: set[asyncio.Queue[str]] = set()
numbers = Numbers()


class Pending:
    """
    Counts the deliveries of a turn, so that all events of a turn are sent before the next begins.
    """

    def __init__(self) -> None:
        self._count = 0
        self._done = asyncio.Event()

    def add(self, count: int) -> None:
        self._count += count
        self._done.clear()

    def sent(self) -> None:
        self._count -= 1
        if not self._count:
            self._done.set()

    async def settled(self) -> None:
        if self._count:
            await self._done.wait()


pending = Pending()


async def stream() -> AsyncIterator[dict[str, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            # The generator resumes when the response has sent the event and drained.
            yield {"data": await queue.get()}
            pending.sent()
    finally:
        queues.discard(queue)


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(stream(), ping=int(KEEPALIVE))


async def publish(request: Request) -> Response:
    asked = request.query_params
    interval = float(asked["interval"])
    began = time.monotonic()
    for turn in range(1, int(asked["turns"]) + 1):
        for data in numbers.turn(int(asked["burst"])):
            pending.add(len(queues))
            for queue in queues:
                queue.put_nowait(data)
        await pending.settled()
        await asyncio.sleep(max(0, began + turn * interval - time.monotonic()))
    return Response()


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/events", events), Route("/publish", publish, methods=["POST"])]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
