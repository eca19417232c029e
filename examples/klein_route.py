# python examples/klein_route.py, then open http://127.0.0.1:8080/ (pip install klein)
# Streams from Klein routes: one returns a resource, the other upgrades its request.

import sys
from collections.abc import AsyncIterator
from datetime import datetime

from klein import Klein
from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import server

from txsse import SSEResource, UpgradeRefused, upgrade

PAGE = b"""<!doctype html><html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Klein</title>
<p>Every second: <span role="timer"></span></p>
<p>Every three seconds: <span role="timer"></span></p>
<script>
  const [often, seldom] = document.querySelectorAll("span");
  new EventSource("clock").onmessage = (event) => { often.textContent = event.data; };
  new EventSource("clock/3").onmessage = (event) => { seldom.textContent = event.data; };
</script>
"""
app = Klein()


@app.route("/")
def page(request: server.Request) -> bytes:
    return PAGE


@app.route("/clock")
def clock(request: server.Request) -> SSEResource:
    return SSEResource(lambda channel: times(channel.reactor))


@app.route("/clock/<int(min=1):seconds>")
async def slow_clock(request: server.Request, seconds: int) -> None:
    try:
        channel = upgrade(request)
    except UpgradeRefused:
        return  # a response has already been sent
    channel.send_from(times(channel.reactor, seconds))
    await channel.when_closed()  # Klein ends the request when this returns


async def times(reactor: interfaces.IReactorTime, seconds: int = 1) -> AsyncIterator[str]:
    while True:
        yield f"{datetime.now():%H:%M:%S}"
        await task.deferLater(reactor, seconds)


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(app.resource()))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
