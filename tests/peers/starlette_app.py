"""
sse-starlette on uvicorn, for ``tests/peers/test_servers.py``. The argument is a file with
``[[id, type, text], ...]`` as JSON.

``python starlette_app.py TEXTS``
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

TEXTS = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

open_streams = 0


def respond(*events: ServerSentEvent | float, ends: bool = False, ping: float = 15) -> EventSourceResponse:
    """
    Send events, and sleep for each number of seconds; then leave the stream open, unless it ends.
    """

    async def stream() -> AsyncIterator[ServerSentEvent]:
        global open_streams
        open_streams += 1
        try:
            for event in events:
                if isinstance(event, ServerSentEvent):
                    yield event
                else:
                    await asyncio.sleep(event)
            if not ends:
                await asyncio.Event().wait()
        finally:
            open_streams -= 1

    return EventSourceResponse(stream(), ping=ping)


async def texts(request: Request) -> Response:
    """
    Send some texts after the client's last event id, and 204 if the client has all.
    """
    last = request.headers.get("last-event-id", "").encode("latin-1").decode()
    start = [id for id, _, _ in TEXTS].index(last) + 1 if last else 0
    if start == len(TEXTS):
        return Response(status_code=204)
    some = TEXTS[start : start + int(request.query_params["each"])]
    events = [ServerSentEvent(data, event=type, id=id) for id, type, data in some]
    return respond(ServerSentEvent(retry=10), *events, ends=True)


async def kinds(request: Request) -> Response:
    return respond(
        ServerSentEvent(comment="data: x", retry=10),
        ServerSentEvent("neither id nor type"),
        ServerSentEvent(id="7"),
        ServerSentEvent("one\n\ntwo", event="größe"),
        ServerSentEvent("", id="№ 8 · 古池 🐸"),
        ServerSentEvent(comment=""),
        ServerSentEvent("no id any more", id=""),
        ServerSentEvent(event="no data"),
        ServerSentEvent(id="9"),
        ServerSentEvent("the last", retry=20),
    )


async def keep_alives(request: Request) -> Response:
    return respond(ServerSentEvent("before", id="1"), 0.2, ServerSentEvent("after", id="2"), ping=0.01)


async def echo(request: Request) -> Response:
    body = (await request.body()).decode()
    return respond(
        ServerSentEvent(
            json.dumps({"method": request.method, "body": body, "headers": dict(request.headers)})
        )
    )


async def open_ones(request: Request) -> Response:
    return PlainTextResponse(f"{open_streams}")


app = Starlette(
    routes=[
        Route("/texts", texts),
        Route("/kinds", kinds),
        Route("/keep-alives", keep_alives),
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/open", open_ones),
    ],
    # Compresses for clients that request it, which ours must not do.
    middleware=[Middleware(GZipMiddleware, minimum_size=1)],
)

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"Serving http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])
